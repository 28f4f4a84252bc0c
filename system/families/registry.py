"""What a model family brings to workers, loops, evaluation and configurations, which know none of them.

A family is a folder whose `family.py` registers one record. Registering is light: what needs torch is imported by
the functions of the record when they are called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from system.config import PlannerConfig, RunConfig
from system.config.registry import FAMILIES, ChangedKey
from system.data.replay.sampling import Windows
from system.errors import ConfigError
from system.planning.registry import Asks

if TYPE_CHECKING:
    import numpy as np

    from system.data.imagined_rollouts import ImaginedRollouts
    from system.data.prepared import PreparedData
    from system.types import PredictionErrors, SegmentBatch, TaskSpec, TransitionBatch


@runtime_checkable
class Agent(Protocol):
    """What acts: a `torch.nn.Module` whose weights are all that a checkpoint needs to act."""

    @property
    def device(self) -> Any:
        """Where the weights lie."""
        ...

    def perceive(self, observations: "np.ndarray", game: int) -> "np.ndarray":
        """What of the environment's observations [N, ...] is remembered."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def eval(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def to(self, device: Any) -> Any: ...


class Learner(Protocol):
    """Owns an agent and its optimisers."""

    def update(
        self, segments: "SegmentBatch", transitions: "list[TransitionBatch]", *, stage: str, step: int
    ) -> dict[str, Any]:
        """One update step; returns scalars by name."""
        ...

    def state(self) -> dict[str, Any]:
        """Weights (under `agent.`), moments and duals, flat and named."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` gave."""
        ...

    def weights(self) -> dict[str, Any]:
        """What acting needs."""
        ...


@dataclass(frozen=True)
class PolicyTraits:
    """How a policy is to be treated by what knows only its name.

    Attributes:
        plans: it looks ahead, and explores by drawing candidates in proportion to their utility.
        is_rival: the same model acting without looking ahead, which planners are compared with.
        conditioned: it asks for a return, a ratio of the target-return table.
        draws: its decisions hold candidates, from which exploration can draw; whatever plans does.
        reaches: it asks for a goal, and tries to get there.
        unplanned: the policy that its candidates are plans of; empty: what the planner becomes at horizon 0.
    """

    plans: bool = False
    is_rival: bool = False
    conditioned: bool = False
    draws: bool = False
    unplanned: str = ""
    reaches: bool = False


@dataclass(frozen=True)
class Capability:
    """Something that a model can be asked for, and that is measured by itself.

    Attributes:
        doc: one line.
        policy: that shows it by what it earns; empty where it is measured on recorded episodes.
        measure: (name, agent, data, config) → errors on held-out episodes; None where it is played.
    """

    doc: str
    policy: str = ""
    measure: "Callable[[str, Any, PreparedData, RunConfig], list[PredictionErrors]] | None" = None


@dataclass(frozen=True)
class Imagining:
    """How a family imagines from recorded steps, and learns of it; `system.training.imagining` says when.

    Attributes:
        update_step: offline update step before which the dataset is imagined from; None: it is not.
        every_env_steps: online, how often anew; None: never.
        refreshed_share: of the dataset's episodes, those that are imagined from again then.
        begin: (agent, data, config) → entries of the learner's state that imagining begins with, which the agent
            takes over too.
        imagine: (agent, store, episodes, config, seed path) → `ImaginedRollouts`; depends on these alone.
        take_in: (learner's state, agent, store, rollouts, config) → the entries of the state that change.
    """

    update_step: Callable[[RunConfig], int | None]
    every_env_steps: Callable[[RunConfig], int | None]
    refreshed_share: Callable[[RunConfig], float]
    begin: Callable[[Any, Any, RunConfig], Mapping[str, Any]]
    imagine: "Callable[[Any, Any, Sequence[int], RunConfig, tuple[str | int, ...]], ImaginedRollouts]"
    take_in: "Callable[[Any, Any, Any, ImaginedRollouts, RunConfig], Mapping[str, Any]]"


@dataclass(frozen=True)
class Family:
    """One method. Whatever it lacks is None.

    Attributes:
        name, section, former, former_name, changed, planner, asks, also_asks, evaluated, batch_sizes, validate: as
            in `system.config.registry.NamedFamily`.
        serves: whether it can learn a task.
        policies: name → traits of every way of acting, those of registered planners included.
        planner_policy: the name under which the configured planner is evaluated.
        make_policy: (name, agent, task, config, planner) → a policy of that name.
        sizes: the keys within its section that weights are made for, nested, with their values.
        build: (task, config) → an agent with the run's initial weights.
        found: (agent, foundation): gives the agent what the training data say.
        learn: (agent, config, average_gradients=, shard=) → its learner.
        segments_per_step: rows of a batch of windows, over all learners; 0: it learns from transitions alone.
        transition_batches: (config, stage) → (number, rows) of the batches of transitions that an update step of
            that stage takes beside them.
        windows: what its learner is given: as in `SampleRequest`.
        refresh: (agent, replay, visible episodes): takes in what the replay has learnt, after online updates.
        prepare: (data, config, cache_folder, resumed=, begun_with=, progress=, stop_if_asked=) → the data as the
            learner wants them. `resumed`: a learner's state whose preparation must be kept; `begun_with`: one
            that pretraining begins with.
        diagnose: (agent, data, config, folder, stage) → curves by name, of which pictures lie in the folder then.
        one_pass: (name, agent, task, config, planner) → the policy of that name as a `torch.nn.Module` that can be
            exported, None of a policy that looks ahead. Its inputs are those of `system.runs.one_pass`, actions in
            [−1, 1]; observations are what the environment shows.
        encode: (agent, observations, actions or None) → representations of single steps, a row each.
        compile: compiles an agent's model in place.
        learnt_by_updates: of a learner's state, the names that begin so are what `begun_with` takes over.
        several_datasets: it can be trained on several datasets together.
        imagining: how it imagines from recorded steps.
        incomplete_data: it learns from episodes without actions, or without rewards, too.
        capabilities: what its model can be asked for by name, and how that is measured.
    """

    name: str
    section: type
    planner: str
    asks: Asks
    evaluated: tuple[str, ...]
    validate: Callable[[RunConfig], None]
    serves: "Callable[[TaskSpec], bool]"
    policies: Callable[[], Mapping[str, PolicyTraits]]
    planner_policy: Callable[[RunConfig], str]
    make_policy: "Callable[[str, Any, TaskSpec, RunConfig, PlannerConfig], Any]"
    sizes: Callable[[RunConfig], dict[str, Any]]
    build: "Callable[[TaskSpec, RunConfig], Any]"
    found: Callable[[Any, Any], None]
    learn: Callable[..., Learner]
    batch_sizes: Callable[[RunConfig], Mapping[str, int]]
    segments_per_step: Callable[[RunConfig], int]
    windows: Windows
    also_asks: tuple[str, ...] = ()
    transition_batches: Callable[[RunConfig, str], tuple[int, int]] = lambda config, stage: (0, 0)
    refresh: Callable[[Any, Any, int | None], None] | None = None
    prepare: Callable[..., Any] | None = None
    diagnose: "Callable[[Any, Any, RunConfig, Path, str], Mapping[str, np.ndarray]] | None" = None
    one_pass: "Callable[[str, Any, TaskSpec, RunConfig, PlannerConfig], Any] | None" = None
    encode: Callable[[Any, Any, Any], Any] | None = None
    compile: Callable[[Any], None] | None = None
    learnt_by_updates: tuple[str, ...] = ()
    several_datasets: bool = False
    imagining: Imagining | None = None
    incomplete_data: bool = False
    capabilities: Mapping[str, Capability] = field(default_factory=dict)
    former: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, ChangedKey] = field(default_factory=dict)
    former_name: str | None = None

    @property
    def begins_with_weights(self) -> bool:
        """Whether pretraining can begin with another run's weights."""
        return bool(self.learnt_by_updates)


def register_family(family: Family) -> None:
    """Makes a family known by its name, for configurations, loops, sweeps and reports alike.

    Raises:
        ConfigError: one of its policies has the name of another family's and is to be treated otherwise; summaries
            know policies by their names alone.
    """
    for other in FAMILIES.values():
        if not isinstance(other, Family) or other.name == family.name:
            continue
        theirs = other.policies()
        for name, traits in family.policies().items():
            if theirs.get(name, traits) != traits:
                raise ConfigError(f"family {family.name}: policy {name} has other traits in family {other.name}")
    FAMILIES[family.name] = family


def family_of(config: RunConfig) -> Family:
    """The family of a configuration."""
    family = FAMILIES[config.family]
    assert isinstance(family, Family)
    return family


def families_for(task: Any) -> list[str]:
    """Names of the families that can learn a task."""
    return [each.name for each in FAMILIES.values() if isinstance(each, Family) and each.serves(task)]


def policy_traits(name: str) -> PolicyTraits:
    """Of a policy of any family; of a name that none knows, neither planning nor a rival."""
    for family in FAMILIES.values():
        traits = family.policies().get(name)
        if traits is not None:
            assert isinstance(traits, PolicyTraits)
            return traits
    return PolicyTraits()
