"""The run configuration: frozen dataclasses, one per concern.

Every key has a type, a default and, through `setting`, a range; `system.config.loading` builds a `RunConfig`
from YAML and `--set` overrides and refuses what does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from system.config.ascent import AscentConfig
from system.config.fields import setting
from system.config.modules import import_modules, imported_modules
from system.config.registry import default_family, family_named
from system.errors import ConfigError

EndReading = Literal["complete", "continued", "unknown"]
"""What is taken for the returns-to-go of an episode that ended although going on had value."""

DEMO_DATASET = "o2o/hopper/medium-replay-v0"
NO_ENVIRONMENT = "none"
"""Value of `environment.id` where there are only data."""


@dataclass(frozen=True)
class DatasetConfig:
    """Which data; one of `id` and `file`, and without either the dataset that is shipped for demonstrations."""

    id: str | None = setting(None, doc="Minari id; `o2o/…` ids are shipped with the package")
    file: str | None = setting(None, doc="path instead of an id: D4RL, robomimic, OGBench, DQN-replay, tables")
    observation_keys: tuple[str, ...] = setting((), doc="of named parts or columns of observations, those read")
    also: tuple[str, ...] = setting((), doc="further datasets trained on together, in equal shares (Atari)")
    path: str | None = setting(None, doc="root of local Minari datasets; default MINARI_DATASETS_PATH")
    download: bool = setting(True, doc="ask Minari's hub for a dataset that is not there")
    on_bad_episode: Literal["refuse", "drop"] = setting("refuse", doc="refuse the dataset, or drop and count")
    incomplete: Literal["refuse", "keep", "drop"] = setting(
        "refuse",
        doc="episodes all of whose actions, or rewards, are not numbers: they are faults, are learnt from as far "
        "as they go, or left out",
    )
    hide_actions: float = setting(0.0, low=0.0, high=1.0, doc="share of training episodes that forget actions")
    hide_rewards: float = setting(0.0, low=0.0, high=1.0, doc="likewise of rewards, and returns with them")
    limit_ends: EndReading = setting(
        "continued",
        doc="returns of episodes that the time limit ended: what was seen is all, they go on at their last steps' "
        "pace, or labels that this would change by more than a tenth are not known",
    )
    cut_episodes: EndReading = setting(
        "unknown", doc="returns of episodes cut before the time limit: likewise; unknown: none of them is known"
    )
    validation_fraction: float = setting(0.05, low=0.0, high=0.5, doc="share of episodes held out of training")
    max_transitions: int | None = setting(
        None, low=1, doc="train on this many of each dataset: whole episodes by the seed, the last one cut"
    )

    def __post_init__(self) -> None:
        """Names the shipped dataset where nothing is named."""
        if self.id is None and self.file is None:
            object.__setattr__(self, "id", DEMO_DATASET)

    @property
    def name(self) -> str:
        """The id, or the path of the file."""
        return self.file or self.id or ""


@dataclass(frozen=True)
class EnvironmentConfig:
    """What is acted in; without an id that which the data were collected in."""

    id: str | None = setting(None, doc="that Gymnasium knows; none: there is no simulator, only the data")
    kwargs: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"doc": "arguments of its constructor; empty: those that the data say"},
    )
    max_episode_steps: int | None = setting(None, low=1, doc="its time limit; None: as data say, or registered")
    reference_min: float | None = setting(None, doc="return scored 0; None: as established, or as the data say")
    reference_max: float | None = setting(None, doc="return scored 100; set both or neither")


@dataclass(frozen=True)
class CriticConfig:
    hidden_width: int = setting(256, low=8, high=8192)
    num_critics: int = setting(2, low=1, high=32, doc="ensemble members E; the minimum is used")
    layer_norm: bool = setting(True)
    batch_size: int = setting(256, low=1, doc="transitions a step, over all learners")
    learning_rate: float = setting(3e-4, low=0.0, high=1.0)
    expectile: float = setting(0.7, low=0.5, high=0.999, doc="τ of the value loss")
    target_update_rate: float = setting(5e-3, low=0.0, high=1.0, doc="Polyak step of the target critics")
    advantage_temperature: float = setting(100.0, low=0.0, doc="β of the reference actor's weights")
    updates_per_step: int = setting(5, low=0, doc="critic updates per update step of the trajectory model")
    beside: bool = setting(True, doc="learn them at the same time as the model, on another core; not on a GPU")
    online_updates_per_step: int | None = setting(
        None, low=0, doc="the same of the online stage; None: as many"
    )


@dataclass(frozen=True)
class PlannerConfig:
    name: str = setting("", doc="a registered planner; empty: the family's own")
    guidance: Literal["critic", "return", "none"] = setting(
        "return", doc="where values come from; none draws without guidance"
    )
    proposals: Literal["model", "actor"] = setting(
        "model", doc="whose plans are the candidates: the sequence model's, or the reference actor's in the model"
    )
    actor_spread: float = setting(
        0.3, low=0.001, high=10.0, doc="of the actor's candidates, times its own standard deviation"
    )
    horizon: int = setting(4, low=0, high=64, doc="planned actions h; 1 looks at values alone, 0 no planning")
    td_lambda: float = setting(0.6, low=0.0, high=1.0, doc="λ of eq. 3 and of beam search")
    temperature: float = setting(1.0, low=0.0, high=1e9, doc="ξ of eq. 4; multiplies the utility")
    utility_scale: Literal["raw", "standardized"] = setting(
        "standardized", doc="divide utilities by their standard deviation over the candidates first"
    )
    num_candidates: int = setting(32, low=1, high=100_000, doc="N")
    beam_width: int = setting(4, low=1, high=100_000, doc="W, for beam search")
    support_threshold: float = setting(
        0.0, low=0.0, high=1.0, doc="an action's least likelihood in the data, as a share of the largest (Atari)"
    )
    imagine_without_choice: bool = setting(
        False, doc="beam search looks ahead also where only one action can be taken"
    )
    goal_speed: float = setting(
        0.0, low=0.0, doc="a goal is shown no further away than so many typical changes a step; 0: as it is"
    )
    goal_arrival: Literal["deadline", "receding"] = setting(
        "deadline", doc="a goal stands where it is due, at most h steps ahead, or always h steps ahead"
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", doc="of models while planning; bfloat16: large ones are about twice as fast, nearly the same"
    )
    target_return_ratio: float = setting(1.0, low=0.0, high=10.0, doc="of the target-return table")
    select: Literal["sample", "expectation", "unsquashed_expectation", "argmax"] = setting(
        "expectation",
        doc="how evaluation picks: a draw, the mean, the mean before tanh, the best; exploration always draws",
    )
    ascent: AscentConfig = field(default_factory=AscentConfig)

    @property
    def expects(self) -> bool:
        """Whether candidates are averaged, which numbers of actions can only vote for."""
        return self.select in ("expectation", "unsquashed_expectation")


@dataclass(frozen=True)
class PretrainConfig:
    update_steps: int = setting(2000, low=0, doc="joint updates of everything that the family learns")
    from_checkpoint: str | None = setting(
        None, doc="a checkpoint, or a run directory: its newest one, whose weights are begun with (Atari)"
    )


@dataclass(frozen=True)
class OnlineConfig:
    env_steps: int = setting(5000, low=0, doc="budget of the online stage; 0 leaves it out")
    episodes: int | None = setting(None, low=1, doc="budget in episodes, when it ends earlier")
    explore_with: Literal["best", "configured"] = setting(
        "best", doc="what did best in the offline evaluation (not of Atari), or the configured planner"
    )
    drawn_share: float = setting(
        0.5, low=0.0, high=1.0, doc="of a worker's episodes draw by utility; the others act as in evaluation"
    )
    environments_per_worker: int = setting(8, low=1, high=4096)
    env_steps_per_round: int = setting(
        1000, low=1, doc="a worker plays whole episodes of about so many steps before it gets newer weights"
    )
    max_episode_steps: int | None = setting(None, low=1, doc="cut online episodes (counted as truncated)")
    updates_per_env_step: float = setting(0.05, low=0.0, doc="update steps per transition inserted")
    limiter_tolerance_steps: int = setting(2000, low=1, doc="how far inserts and updates may drift, in env steps")
    warmup_env_steps: int = setting(0, low=0, doc="collected before the first online update")
    offline_fraction_start: float = setting(0.75, low=0.0, high=1.0, doc="share of offline data in a batch")
    offline_fraction_end: float = setting(0.25, low=0.0, high=1.0)
    offline_fraction_anneal_env_steps: int = setting(25_000, low=1)
    segment_weighting: Literal["uniform", "return"] = setting("uniform", doc="how online segments are chosen")
    evaluate_every_env_steps: int = setting(5000, low=1)
    collapse_guard: bool = setting(
        True, doc="roll back when the return falls under the best evaluation's interval"
    )
    keep: Literal["best", "final"] = setting(
        "best", doc="weights that the stage leaves: the best judged, or the last"
    )


@dataclass(frozen=True)
class EvaluationConfig:
    policies: tuple[str, ...] = setting((), doc="that are measured; none: those that the family compares")
    episodes: int = setting(20, low=1, doc="episodes of each policy in a reported figure")
    schedule_episodes: int = setting(5, low=1, doc="episodes of the planner at each scheduled evaluation")
    selection_episodes: int = setting(4, low=1, doc="episodes, of other seeds, on which the ratio is chosen")
    target_return_ratios: tuple[float, ...] = setting((0.6, 0.8, 1.0), low=0.0, high=10.0)
    num_environments: int = setting(20, low=1, high=4096, doc="environments stepped together")
    max_episode_steps: int | None = setting(None, low=1, doc="cut evaluation episodes (counted as truncated)")
    noop_max: int = setting(30, low=0, high=1000, doc="Atari: most idle frames before an episode, from its seed")
    random_action_share: float = setting(
        0.0, low=0.0, high=1.0, doc="Atari: of a policy's decisions, those replaced by any valid action"
    )
    capabilities: tuple[str, ...] = setting(
        (), doc="of the family's model, measured on held-out episodes after each stage"
    )
    ranked_states: int = setting(
        20, low=0, high=100_000, doc="states at which a planner's candidates are executed and compared; 0: none"
    )
    ranked_candidates: int = setting(12, low=2, high=4096, doc="of each of these states, at most")
    ranked_follow_steps: int = setting(
        100, low=0, high=100_000, doc="after a candidate's first action, by the policy that does not plan"
    )
    film_steps: int = setting(
        200, low=0, high=100_000, doc="steps of the planner's episode that are filmed, where it can be; 0: none"
    )


@dataclass(frozen=True)
class CheckpointConfig:
    every_seconds: float = setting(120.0, low=0.0, doc="at least this long between saves (0: at every chance)")
    every_update_steps: int = setting(500, low=1, doc="pretraining: a chance to save (deterministic: it does)")
    keep: int = setting(3, low=1, doc="newest checkpoints kept, besides the best")


@dataclass(frozen=True)
class TrackingConfig:
    experiment: str = setting("offline-to-online")
    mlflow: bool = setting(True)
    every_update_steps: int = setting(50, low=1, doc="metrics of updates are averaged over this many")


@dataclass(frozen=True)
class LearnerPlacementConfig:
    cpus: float = setting(1.0, low=0.0, high=1024.0, doc="of each learner actor")
    gpus: float | None = setting(
        None, low=0.0, high=64.0, doc="of each; None: one where there are as many, else an equal part of them"
    )
    strategy: Literal["pack", "spread", "strict_pack", "strict_spread"] = setting(
        "pack", doc="pack: on few nodes, for they exchange gradients"
    )


@dataclass(frozen=True)
class RolloutPlacementConfig:
    cpus: float = setting(1.0, low=0.0, high=1024.0, doc="of each rollout actor")
    gpus: float = setting(0.0, low=0.0, high=64.0)
    at_least: int | None = setting(
        None, low=1, doc="a run begins with so many, and others join when there is room; None: all of them"
    )


@dataclass(frozen=True)
class EvaluatorPlacementConfig:
    cpus: float = setting(1.0, low=0.0, high=1024.0, doc="of each evaluation actor")
    gpus: float = setting(0.0, low=0.0, high=64.0)


@dataclass(frozen=True)
class PlacementConfig:
    """What actors take; `learners: {num: 2, gpus: 1}` is short for both keys, and so with the others."""

    learners: LearnerPlacementConfig = field(default_factory=LearnerPlacementConfig)
    rollout_workers: RolloutPlacementConfig = field(default_factory=RolloutPlacementConfig)
    evaluators: EvaluatorPlacementConfig = field(default_factory=EvaluatorPlacementConfig)
    wait_seconds: float = setting(300.0, low=0.0, doc="for room, before the run gives up, resumable")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on.

    Attributes:
        method: the family's own section; in files and overrides it has the family's name.
    """

    seed: int = setting(0, low=0)
    family: str = setting("", doc="a registered method; empty: the first one")
    modules: tuple[str, ...] = setting(
        (), doc="imported first, in every process: they register families, planners and the like"
    )
    discount: float = setting(0.99, low=0.0, high=1.0, doc="γ of returns, critics and utilities")
    learners: int = setting(0, low=0, doc="learner actors; 0 learns in the calling process")
    rollout_workers: int = setting(0, low=0, doc="rollout actors; 0 collects in the calling process")
    evaluators: int = setting(0, low=0, doc="evaluation actors; 0 evaluates in the calling process")
    deterministic: bool = setting(False, doc="lock-step rounds: exact resume, local equals Ray")
    num_threads: int = setting(1, low=1, doc="torch threads of each process")
    device: Literal["auto", "cpu", "cuda"] = setting("auto")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", doc="auto: bfloat16 on CUDA, else float32")
    compile: bool = setting(False, doc="torch.compile the model")
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    method: Any = None
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)

    def __post_init__(self) -> None:
        """Fills in what the family decides where nothing is given."""
        family = family_named(self.family or default_family())
        filled: dict[str, Any] = {"family": family.name}
        if self.method is None:
            filled["method"] = family.section()
        elif not isinstance(self.method, family.section):
            raise ConfigError(f"family: {family.name} has a section of another family")
        if not self.planner.name:
            filled["planner"] = replace(self.planner, name=family.planner)
        if not self.evaluation.policies:
            filled["evaluation"] = replace(self.evaluation, policies=family.evaluated)
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def __getstate__(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """To another process go the values, and which of the modules this one has imported for the user."""
        return dict(self.__dict__), imported_modules(self.modules)

    def __setstate__(self, state: tuple[dict[str, Any], tuple[str, ...]]) -> None:
        """Where a configuration arrives, what its modules register is known."""
        values, modules = state
        import_modules(modules)
        self.__dict__.update(values)

    @property
    def context_length(self) -> int:
        """T, time steps that the family's model sees."""
        length: int = self.method.context_length
        return length


@dataclass(frozen=True)
class CollectConfig:
    """Configuration of `o2o collect`."""

    seed: int = setting(0, low=0)
    modules: tuple[str, ...] = setting((), doc="imported first, as of a run")
    environment: str = setting("Hopper-v5", doc="that Gymnasium knows, or an Atari game as ALE/Pong-v5")
    environment_kwargs: Mapping[str, Any] = field(
        default_factory=dict, metadata={"doc": "keyword arguments of its constructor"}
    )
    environment_max_episode_steps: int | None = setting(
        None, low=1, doc="time limit in place of the registered one; has to be set where there is none"
    )
    dataset_id: str = setting("o2o/hopper/medium-replay-v0")
    output: str = setting("datasets", doc="root folder of the Minari dataset that is written")
    kind: Literal["medium-replay", "medium", "expert", "random", "mixed"] = setting("medium-replay")
    policy: Literal["ppo", "random", "checkpoint", "tracker"] = setting(
        "ppo", doc="tracker: a player of Pong that follows the ball"
    )
    checkpoint: str | None = setting(None, doc="a project checkpoint, for policy: checkpoint")
    action_noise: float = setting(0.0, low=0.0, high=2.0, doc="standard deviation, added to a saved policy")
    noise_levels: tuple[float, ...] = setting(
        (), low=0.0, high=1.0, doc="policy tracker: share of random actions, by environment"
    )
    env_steps: int = setting(100_000, low=1, doc="transitions written, to the end of the last episode")
    target_return: float | None = setting(None, doc="training stops once 20 episodes reach it on average")
    max_training_env_steps: int = setting(1_000_000, low=1, doc="training stops there in any case")
    environments: int = setting(4, low=1, high=256)


@dataclass(frozen=True)
class SweepConfig:
    """Configuration of `o2o sweep`."""

    kind: Literal["planner", "run", "online"] = setting(
        "planner", doc="planner settings of a checkpoint; whole runs; online stages from a checkpoint"
    )
    checkpoint: str | None = setting(None, doc="kinds planner and online: a checkpoint or a run directory")
    config: str | None = setting(None, doc="kinds run and online: preset or file that the trials build on")
    seed: int = setting(0, low=0, doc="of the first seed, and of random searches")
    seeds: int = setting(1, low=1, high=1000, doc="trials of each configuration, with consecutive seeds")
    searcher: Literal["grid", "random", "optuna"] = setting("random")
    trials: int | None = setting(None, low=1, high=100_000, doc="configurations; a grid has as many as it has")
    objective: Literal["return_mean", "return_iqm"] = setting("return_mean", doc="of a configuration's episodes")
    episodes: int = setting(2, low=1, doc="kind planner: episodes of each seed")
    finalists: int = setting(4, low=0, doc="kind planner: best configurations that are measured again; 0: none")
    finalist_episodes: int = setting(10, low=1, doc="kind planner: other episodes of each seed, for finalists")
    scheduler: Literal["none", "asha"] = setting("none", doc="asha stops bad trials at a scheduled evaluation")
    grace_env_steps: int = setting(1000, low=1, doc="asha: none is stopped earlier")
    reduction_factor: int = setting(3, low=2, high=100, doc="asha: one in so many goes on")
    concurrent: int | None = setting(None, low=1, doc="trials at a time; None: as many as there is room for")
    gpus_per_trial: float = setting(0.0, low=0.0, high=64.0, doc="of a trial without learner actors")
    retries: int = setting(2, low=0, high=100, doc="how often a trial that crashed is taken up again")
    set: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "key.path: value, in all trials"})
    space: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "key.path: what it is drawn from"})
