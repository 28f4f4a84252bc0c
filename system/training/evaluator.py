"""One evaluator: plays an agent's policies on the episodes of a purpose, so that what is chosen on some episodes
is reported on others; and imagines with the agent what a family learns from."""

from collections.abc import Callable, Iterator, Sequence

from system.config import RunConfig
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore
from system.evaluation.measurement import SCHEDULE_SEEDS, Measurer
from system.families.building import build_agent
from system.families.registry import Agent, family_of, policy_traits
from system.models.devices import prepare_process
from system.training.protocols import EvaluationRequest, EvaluationResult, ImaginedChunk, Weights
from system.types import TaskSpec


class Evaluator:
    """Measures policies of one agent, and imagines with it; an answer depends on question and weights alone.

    Args:
        agent: in evaluation mode.
        tasks: what can be played.
        config: the run's configuration.
    """

    def __init__(self, agent: Agent, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        prepare_process(config)
        self.agent = agent
        self.config = config
        self._tasks = {task.environment_id: task for task in tasks}
        self._measurers: dict[str, Measurer] = {}
        self._pause: Callable[[], None] = go_on

    def measure(self, request: EvaluationRequest, pause: Callable[[], None] | None = None) -> EvaluationResult:
        """Answers one request.

        Args:
            request: whose environment is one of the tasks'.
            pause: called before every decision; may raise to stop.
        """
        self._pause = pause or go_on
        measurer, policy, ratio = self._measurer(request.environment), request.policy, request.target_return_ratio
        if request.purpose == "schedule":
            episodes = self.config.evaluation.schedule_episodes
            return EvaluationResult(measurer.measure(policy, ratio, SCHEDULE_SEEDS, episodes), {})
        curve: dict[float, float] = {}
        if ratio is None and policy_traits(policy).conditioned:
            ratio, curve = measurer.choose_ratio(policy)
        return EvaluationResult(measurer.report(policy, ratio), curve, measurer.rank(policy, ratio))

    def imagine(self, store: EpisodeStore, chunk: ImaginedChunk) -> ImaginedRollouts:
        """Imagines from some episodes of a store."""
        imagining = family_of(self.config).imagining
        assert imagining is not None, "asked of families that imagine"
        seed, episodes = chunk
        return imagining.imagine(self.agent, store, episodes, self.config, seed)

    def close(self) -> None:
        """Frees the environments."""
        for measurer in self._measurers.values():
            measurer.close()

    def _measurer(self, environment: str) -> Measurer:
        if environment not in self._measurers:
            task = self._tasks[environment]
            self._measurers[environment] = Measurer(self.agent, task, self.config, lambda: self._pause())
        return self._measurers[environment]


class LocalEvaluators:
    """The in-process `Evaluators`; its agent is built when there is something to measure.

    Args:
        tasks, config: of the evaluator.
    """

    def __init__(self, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        self._tasks = tuple(tasks)
        self._config = config
        self._evaluator: Evaluator | None = None

    def set_weights(self, weights: Weights, version: int) -> None:
        """Takes over a version of the weights."""
        if self._evaluator is None:
            agent = build_agent(self._tasks[0], self._config).eval()
            self._evaluator = Evaluator(agent, self._tasks, self._config)
        self._evaluator.agent.load_state_dict(dict(weights))

    def measure(
        self, requests: Sequence[EvaluationRequest], pause: Callable[[], None]
    ) -> Iterator[tuple[int, EvaluationResult]]:
        """Answers requests one after the other; `pause` is called before every decision."""
        assert self._evaluator is not None, "weights come first"
        for index, request in enumerate(requests):
            yield index, self._evaluator.measure(request, pause)

    def imagine(
        self, store: EpisodeStore, chunks: Sequence[ImaginedChunk], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """One chunk after the other; `pause` is called before each."""
        assert self._evaluator is not None, "weights come first"
        for index, chunk in enumerate(chunks):
            pause()
            yield index, self._evaluator.imagine(store, chunk)

    def close(self) -> None:
        """Frees the environments."""
        if self._evaluator is not None:
            self._evaluator.close()


def go_on() -> None:
    """Nothing stops an evaluation from outside but the signal's own effect."""
