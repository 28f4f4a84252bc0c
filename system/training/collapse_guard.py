"""Scheduled evaluations of the online stage, and the way back when the policy has collapsed.

The offline policy is measured on the schedule's own seeds before the first online round. Later, when the
upper end of an evaluation's interval falls under the lower end of the best one so far, the learners take over the
weights of that one. The last updates are judged as well, and the run goes on with the best judged weights, whose
worth the reported episodes, of other seeds, then tell. Of several games, scores are compared, not returns.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from system.evaluation.statistics import bootstrap_interval
from system.training.experiment import Experiment
from system.training.exploration import choose_exploration
from system.training.protocols import EvaluationRequest
from system.types import TaskSpec


class CollapseGuard:
    """Evaluates the planner every `evaluate_every_env_steps` and keeps the best weights.

    Args:
        run: what is evaluated; results go to its progress.
    """

    def __init__(self, run: Experiment) -> None:
        self.run = run

    def evaluate_if_due(self) -> None:
        """Measures the planner, if it is time; keeps the best weights and rolls back from a collapse."""
        progress = self.run.progress
        if progress.env_steps < progress.next_evaluation_env_steps:
            return
        self._judge()

    def judge_the_last(self) -> None:
        """Measures weights that no evaluation has judged yet, then goes on with the best judged ones."""
        progress = self.run.progress
        newest = max((entry.get("update_steps", -1.0) for entry in progress.schedule), default=-1.0)
        if newest < progress.online_update_steps:
            self._judge()
        best = max(progress.schedule, key=lambda entry: entry["mean"])
        if self.run.config.online.keep == "best" and best["mean"] > progress.schedule[-1]["mean"]:
            self.run.take_best(f"the weights of {best['env_steps']:.0f} env steps were the best judged")
        else:
            best = progress.schedule[-1]
        progress.kept_env_steps = int(best["env_steps"])

    def _judge(self) -> None:
        progress, online = self.run.progress, self.run.config.online
        entry = self._measure()
        best = max(progress.schedule, key=lambda each: each["mean"], default=entry)
        progress.schedule.append(entry)
        every = online.evaluate_every_env_steps
        progress.next_evaluation_env_steps = (progress.env_steps // every + 1) * every
        self.run.tracker.log_metrics(
            {
                "schedule/return_mean": entry["mean"],
                "schedule/return_low": entry["low"],
                "schedule/return_high": entry["high"],
            },
            step=progress.env_steps,
        )
        if progress.best_score is None or entry["mean"] > progress.best_score:
            progress.best_score = entry["mean"]
            self.run.save_best()
        elif online.collapse_guard and entry["high"] < best["low"]:
            self.run.roll_back()

    def _measure(self) -> dict[str, float]:
        run = self.run
        exploration = choose_exploration(run.config, run.progress.evaluations)
        policy, ratio = exploration.policy, exploration.target_return_ratio
        requests = [EvaluationRequest(task.environment_id, policy, "schedule", ratio) for task in run.data.tasks]
        results = dict(run.measure(requests))
        played = [results[index].measured.returns for index in range(len(requests))]
        returns = np.concatenate(played) if len(played) == 1 else _scores(run.data.tasks, played)
        low, high = bootstrap_interval(returns)
        return {
            "env_steps": float(run.progress.env_steps),
            "update_steps": float(run.progress.online_update_steps),
            "mean": float(returns.mean()),
            "low": low,
            "high": high,
        }


def _scores(tasks: Sequence[TaskSpec], returns: Sequence[Sequence[float]]) -> Float64[np.ndarray, "episodes"]:
    """Normalised scores of every task's episodes; returns where a task has no references."""
    games = zip(tasks, returns, strict=True)
    pairs = [(value, task.normalized(value)) for task, played in games for value in played]
    return np.array([value if score is None else score for value, score in pairs], dtype=np.float64)
