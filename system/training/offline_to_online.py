"""The online stage: rollout workers explore with the planner, learners go on learning, in bounded step.

Rollouts and learners wait for each other only through the samples-per-insert limiter. In lock-step mode
(`deterministic`, or no rollout workers) a round is: whole episodes, then every update they allow, then new
weights. Otherwise workers always have a round to do while the learners update in small chunks.
"""

from collections.abc import Sequence

from system.config import OnlineConfig
from system.data.replay.rate_limiter import SamplesPerInsertLimiter
from system.families.registry import family_of
from system.training.collapse_guard import CollapseGuard
from system.training.experiment import Experiment
from system.training.exploration import choose_exploration
from system.training.imagining import imagine_online_if_due
from system.training.protocols import RolloutResult

LARGEST_CHUNK = 10


def offline_fraction(config: OnlineConfig, env_steps: int) -> float:
    """Share of offline rows in a batch, annealed linearly in env steps."""
    done = min(1.0, env_steps / config.offline_fraction_anneal_env_steps)
    return config.offline_fraction_start + done * (config.offline_fraction_end - config.offline_fraction_start)


class OnlineStage:
    """Collects and learns until the budget is spent.

    Args:
        run: what is worked with; all counters live in its progress.
        guard: evaluates on a schedule and rolls back after a collapse.
    """

    def __init__(self, run: Experiment, guard: CollapseGuard) -> None:
        self.run = run
        self.guard = guard
        self.config = run.config.online
        self.exploration = choose_exploration(run.config, run.progress.evaluations)
        self.lock_step = run.config.deterministic or run.config.rollout_workers == 0

    def train(self) -> None:
        """Works until the budget is spent, every allowed update made and judged; leaves the best judged weights.

        Raises:
            Interrupted: a signal came; a checkpoint was written first.
        """
        self._make_allowed_updates()  # those of a round that a stop cut in two
        self._imagine_and_judge()
        while not self._budget_spent():
            self._round() if self.lock_step else self._advance()
            self._imagine_and_judge()
            self.run.save_if_due()
        self._finish_pending()
        self.guard.judge_the_last()

    def _imagine_and_judge(self) -> None:
        """What is due between rounds, as the counters have it."""
        if family_of(self.run.config).imagining is not None:
            imagine_online_if_due(self.run)
        self.guard.evaluate_if_due()

    def _round(self) -> None:
        """Lock-step: newest weights, whole episodes, then every update they allow."""
        self.run.broadcast_weights()
        self._submit()
        while not (results := self.run.rollouts.collect(wait=True)):
            self.run.stop_if_asked()
            self._submit()  # a worker that was lost while it was idle
        self._account(results)
        self._make_allowed_updates()

    def _advance(self) -> None:
        """Asynchronous: keep the workers busy, take what is finished, learn a little."""
        self.run.stop_if_asked()
        if self._limiter().can_insert() and self.run.rollouts.num_idle() and self._unclaimed_env_steps() > 0:
            self.run.broadcast_weights()
            self._submit()
        self._account(self.run.rollouts.collect(wait=False))
        if not self._update():
            self._account(self.run.rollouts.collect(wait=True))

    def _submit(self) -> None:
        """Gives every idle worker a round, or its part of what is left of the budget."""
        rollouts, progress, episodes = self.run.rollouts, self.run.progress, self.config.episodes
        part = max(1, self._unclaimed_env_steps() // max(1, rollouts.num_idle()))
        wanted = min(self.config.env_steps_per_round, part)
        count = max(1, round(wanted / self._expected_length()))
        if episodes is not None:
            count = min(count, max(1, episodes - progress.episodes))
        rollouts.submit(self.exploration, count, most_env_steps=part)

    def _expected_length(self) -> float:
        """Of the episodes to come, in env steps: as the last ones of this run, or as those of the data."""
        recent = self.run.progress.recent_lengths
        if recent:
            return sum(recent) / len(recent)
        task, training = self.run.data.task, self.run.data.training
        return min(training.num_steps / training.num_episodes, task.steps_until_cut(self.config.max_episode_steps))

    def _unclaimed_env_steps(self) -> int:
        """Of the budget, what is neither collected nor being collected."""
        claimed = self.run.rollouts.num_pending() * self.config.env_steps_per_round
        return self.config.env_steps - self.run.progress.env_steps - claimed

    def _finish_pending(self) -> None:
        """Takes in what is still being played, and makes the updates it allows."""
        while self.run.rollouts.num_pending():
            self.run.stop_if_asked()
            self._account(self.run.rollouts.collect(wait=True))
        self._make_allowed_updates()

    def _make_allowed_updates(self) -> None:
        while self._update():
            self.run.stop_if_asked()

    def _update(self) -> bool:
        """Makes the next chunk of updates; False if the limiter allows none."""
        progress = self.run.progress
        count = min(LARGEST_CHUNK, self._limiter().allowed_updates())
        if count == 0:
            return False
        self.run.update(
            "online",
            progress.online_update_steps,
            count,
            offline_fraction=offline_fraction(self.config, progress.env_steps),
            visible_episodes=progress.episodes if self.lock_step else None,
        )
        progress.online_update_steps += count
        return True

    def _account(self, results: Sequence[RolloutResult]) -> None:
        """Counts finished rounds and shows them."""
        progress = self.run.progress
        for result in results:
            self.run.account_rollout(result, exact=self.lock_step)
        if results:
            progress.next_sequence = self.run.rollouts.position()
            self.run.tracker.progress("online", progress.env_steps, self.config.env_steps, "env steps")

    def _budget_spent(self) -> bool:
        progress, episodes = self.run.progress, self.config.episodes
        return progress.env_steps >= self.config.env_steps or (
            episodes is not None and progress.episodes >= episodes
        )

    def _limiter(self) -> SamplesPerInsertLimiter:
        """The limiter at the run's own counters, which are all the state it has."""
        progress = self.run.progress
        return SamplesPerInsertLimiter(
            updates_per_env_step=self.config.updates_per_env_step,
            tolerance_env_steps=self.config.limiter_tolerance_steps,
            warmup_env_steps=self.config.warmup_env_steps,
            env_steps=progress.env_steps,
            update_steps=progress.online_update_steps,
        )
