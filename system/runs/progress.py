"""How far a run is: counters and small results that every checkpoint holds."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Stage = Literal["offline", "offline_evaluation", "online", "online_evaluation", "done"]
STAGES: tuple[Stage, ...] = ("offline", "offline_evaluation", "online", "online_evaluation", "done")

NUM_REMEMBERED_EPISODES = 2000
NUM_RECENT_EPISODES = 20


@dataclass
class Faults:
    """Counts of what a run survived; part of the summary and of every checkpoint."""

    rollout_worker_lost: int = 0
    replay_lost: int = 0
    learner_lost: int = 0
    evaluator_lost: int = 0
    driver_resumed: int = 0
    checkpoint_corrupt: int = 0
    episode_dropped: int = 0
    collapse_rollback: int = 0
    update_skipped: int = 0
    decision_fell_back: int = 0

    @property
    def restarts(self) -> int:
        """Processes that were replaced, the driver's included."""
        workers = self.rollout_worker_lost + self.replay_lost + self.learner_lost + self.evaluator_lost
        return workers + self.driver_resumed


@dataclass
class Progress:
    """Counters of a run.

    Attributes:
        stage: the one that is being worked on.
        started_from: the run directory, or the folder, of the checkpoint that replaced pretraining; None if none.
        pretrain_steps, online_update_steps: update steps made in the two training stages.
        env_steps, episodes: collected online and acknowledged by the replay.
        weights_version: how often the weights have changed; what acts is stamped with it.
        next_sequence: next episode number of every rollout worker.
        stage_seconds: time spent in each stage, over all resumptions.
        schedule: scheduled evaluations of what explores: {env_steps, update_steps, mean, low, high}.
        kept_env_steps: of the scheduled evaluation whose weights the online stage left; None before its end.
        next_evaluation_env_steps: when the next of them is due.
        best_score, best_checkpoint: of the best of them, to whose weights the guard returns.
        evaluations: reported evaluations so far, as in the summary.
        open_loop: error of the model by horizon, by stage.
        utility_rank_correlation: how well planners' utilities rank candidates, as in the summary.
        capabilities: errors of what the model was asked for by name, as in the summary.
        ratio_curves: mean return at each target-return ratio, by stage and policy.
        num_checkpoints: saved so far; the newest one's number.
        episode_returns, first_utilities: of the newest online episodes, and what was expected of them.
        imagined: what was imagined from the dataset and, online, from what was collected: as in the summary.
        imagined_refreshes, imagined_episodes: how often online, and from how many of its episodes so far.
        recent_lengths: of the last few of them, in env steps, by which the next round is measured.
    """

    stage: Stage = "offline"
    started_from: str | None = None
    pretrain_steps: int = 0
    online_update_steps: int = 0
    env_steps: int = 0
    episodes: int = 0
    weights_version: int = 0
    next_sequence: dict[str, int] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    schedule: list[dict[str, float]] = field(default_factory=list)
    next_evaluation_env_steps: int = 0
    kept_env_steps: int | None = None
    best_score: float | None = None
    best_checkpoint: str | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    ratio_curves: dict[str, dict[str, float]] = field(default_factory=dict)
    open_loop: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    utility_rank_correlation: list[dict[str, Any]] = field(default_factory=list)
    capabilities: list[dict[str, Any]] = field(default_factory=list)
    num_checkpoints: int = 0
    episode_returns: list[float] = field(default_factory=list)
    first_utilities: list[float] = field(default_factory=list)
    recent_lengths: list[int] = field(default_factory=list)
    imagined: list[dict[str, Any]] = field(default_factory=list)
    imagined_refreshes: int = 0
    imagined_episodes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progress":
        """Restores what `to_dict` gave; unknown names are ignored."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def remember_episodes(self, returns: list[float], utilities: list[float], lengths: list[int]) -> None:
        """Notes finished online episodes, the newest `NUM_REMEMBERED_EPISODES` of them."""
        self.episode_returns = [*self.episode_returns, *returns][-NUM_REMEMBERED_EPISODES:]
        self.first_utilities = [*self.first_utilities, *utilities][-NUM_REMEMBERED_EPISODES:]
        self.recent_lengths = [*self.recent_lengths, *lengths][-NUM_RECENT_EPISODES:]
