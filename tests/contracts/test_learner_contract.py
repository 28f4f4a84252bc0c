"""What the learner of every model family must do, within its worker; a new one is one entry of `FAMILIES`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from configs import imagination_config, masked_config, with_method

from system.config import CriticConfig, DatasetConfig, PretrainConfig, ReBRACConfig, RunConfig
from system.data.replay.buffer import ReplayBuffer
from system.data.store.episodes import EpisodeStore
from system.data.store.statistics import compute_statistics
from system.errors import LearningDiverged
from system.families.building import Foundation, build_agent
from system.families.differentiable.config import DifferentiableConfig, ModelKind, WorldModelConfig
from system.families.imagination.config import (
    AugmentationConfig,
    DistillationConfig,
    DistilledModelConfig,
)
from system.families.imagination.config import WorldModelConfig as EnsembleConfig
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.world_action.losses import TokenWindows
from system.models.optimizer_state import keep_gradients
from system.training.learner_worker import LearnerWorker
from system.training.protocols import SKIPPED, UpdateRequest
from system.types import Episode, EpisodeKey, SegmentBatch, TaskSpec
from tests.support import dataset_factory, discrete_factory, jowa_windows

LIMIT = 8


@dataclass(frozen=True)
class Subject:
    """A family's learner, and data that it can learn from.

    Attributes:
        episode: (length, ending, seed) → an episode.
        foundation: of a store.
    """

    task: TaskSpec
    config: RunConfig
    episode: Callable[[int, str, int], Episode]
    foundation: Callable[[EpisodeStore], Foundation]

    def store(self, ending: str = "terminated") -> EpisodeStore:
        episodes = [self.episode(3 + seed, ending, seed) for seed in range(5)]
        return EpisodeStore.from_episodes(episodes, discount=self.config.discount)

    def worker(self, ending: str = "terminated") -> LearnerWorker:
        """With an online episode in its replay."""
        replay = ReplayBuffer(
            self.store(ending), context_length=self.config.context_length, max_episode_steps=LIMIT
        )
        replay.add_episodes([replace(self.episode(4, ending, 50), key=EpisodeKey(0, 0, 0))])
        return LearnerWorker(self.task, self.config, self.foundation(self.store()), replay)


def game_episode(length: int, ending: str, seed: int) -> Episode:
    """Of tokens, actions and rewards at random, with the tiny agent's vocabulary."""
    generator = np.random.default_rng([seed, length])
    task = jowa_windows.TASK
    return Episode(
        observations=generator.integers(9, size=(length + 1, jowa_windows.PER_FRAME)).astype(np.int16),
        actions=generator.choice(np.array(task.valid_actions), size=length).astype(np.int64),
        rewards=generator.integers(-1, 2, size=length).astype(np.float32),
        terminated=ending == "terminated",
        truncated=ending == "time_limit",
        complete=ending != "cut",
        game=task.game,
    )


def tokenizer_weights(store: EpisodeStore) -> Foundation:
    return jowa_windows.make_agent().tokenizer.state_dict()


M3PC = masked_config(
    model=ModelConfig(context_length=4, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
    training=TrajectoryTrainingConfig(batch_size=8, warmup_steps=2),
    critic=CriticConfig(hidden_width=16, batch_size=8, updates_per_step=1),
    pretrain=PretrainConfig(update_steps=8),
)

IPD = imagination_config(
    model=DistilledModelConfig(context_length=4, width=16, num_layers=1, num_heads=2),
    world=EnsembleConfig(hidden_width=16),
    critic=CriticConfig(hidden_width=16, batch_size=8, updates_per_step=1),
    augmentation=AugmentationConfig(horizon=2),
    training=DistillationConfig(batch_size=8, warmup_steps=2, foundation_share=0.5),
    pretrain=PretrainConfig(update_steps=8),
)


M3PC_GOALS = masked_config(
    model=replace(M3PC.method.model, partial_states=True, hidden_states="on_line"),
    training=TrajectoryTrainingConfig(
        batch_size=8, warmup_steps=2, mask_shares={"path_inference": 0.6, "random": 0.2}
    ),
    critic=CriticConfig(hidden_width=16, batch_size=8, updates_per_step=0),
    pretrain=PretrainConfig(update_steps=8),
    dataset=DatasetConfig(id="toy/x-v0", incomplete="keep"),
)


def forgetful_episode(length: int, ending: str, seed: int) -> Episode:
    """Every third one lost its actions, and every third one its rewards."""
    whole = dataset_factory.make_episode(length, ending, seed)
    actions = whole.actions * np.float32(np.nan if seed % 3 == 1 else 1.0)
    return replace(whole, actions=actions, rewards=whole.rewards * np.float32(np.nan if seed % 3 == 2 else 1.0))


def dwm(kind: ModelKind) -> Subject:
    critic = ReBRACConfig(hidden_width=16, hidden_layers=2, batch_size=8)
    method = DifferentiableConfig(WorldModelConfig(kind, width=16, layers=1), critic=critic)
    return Subject(
        replace(dataset_factory.TASK, max_episode_steps=LIMIT),
        RunConfig(family="differentiable", method=method, pretrain=PretrainConfig(update_steps=8)),
        dataset_factory.make_episode,
        lambda store: compute_statistics(store, LIMIT),
    )


FAMILIES = {
    "m3pc": Subject(
        replace(dataset_factory.TASK, max_episode_steps=LIMIT),
        M3PC,
        dataset_factory.make_episode,
        lambda store: compute_statistics(store, LIMIT),
    ),
    "m3pc_goals": Subject(
        replace(dataset_factory.TASK, max_episode_steps=LIMIT),
        M3PC_GOALS,
        forgetful_episode,
        lambda store: compute_statistics(store, LIMIT),
    ),
    "m3pc_goals_mlp": Subject(
        replace(dataset_factory.TASK, max_episode_steps=LIMIT),
        with_method(M3PC_GOALS, model=replace(M3PC_GOALS.method.model, network="mlp")),
        forgetful_episode,
        lambda store: compute_statistics(store, LIMIT),
    ),
    "m3pc_discrete": Subject(
        replace(discrete_factory.TASK, max_episode_steps=LIMIT),
        M3PC,
        discrete_factory.numbered_episode,
        lambda store: compute_statistics(store, LIMIT),
    ),
    "ipd": Subject(
        replace(dataset_factory.TASK, max_episode_steps=LIMIT),
        IPD,
        dataset_factory.make_episode,
        lambda store: compute_statistics(store, LIMIT),
    ),
    "dwm": dwm("mean_flow"),
    "dwm_diffusion": dwm("diffusion"),
    "jowa": Subject(jowa_windows.TASK, jowa_windows.CONFIG, game_episode, tokenizer_weights),
}


@pytest.fixture(params=FAMILIES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return FAMILIES[request.param]


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("stage", ["offline", "online"])
def test_a_restored_learner_goes_on_bit_for_bit(subject: Subject, stage: str) -> None:
    """Across the end of the world losses' own time and a copy of the target, where there are such."""
    whole, restored = subject.worker(), subject.worker()
    whole.update(UpdateRequest(stage, 0, 3, 0.5))
    restored.update(UpdateRequest(stage, 9, 2, 0.5))
    restored.load_state(whole.state())
    ours, theirs = (worker.update(UpdateRequest(stage, 3, 5, 0.5)) for worker in (restored, whole))
    assert ours == theirs
    assert equal(restored.state(), whole.state())
    assert all(np.isfinite(value) for value in ours.values())


def test_an_update_depends_on_its_stage_and_step_alone(subject: Subject) -> None:
    together, apart, elsewhere = (subject.worker() for _ in range(3))
    together.update(UpdateRequest("offline", 3, 2))
    for step in (3, 4):
        apart.update(UpdateRequest("offline", step, 1))
    elsewhere.update(UpdateRequest("offline", 4, 2))
    assert equal(together.state(), apart.state())
    assert not equal(together.state(), elsewhere.state())


def test_a_state_is_not_changed_by_what_follows(subject: Subject) -> None:
    worker = subject.worker()
    worker.update(UpdateRequest("offline", 0, 1))
    for taken in (worker.state, worker.weights):
        before = taken()
        kept = {name: value.clone() for name, value in before.items()}
        worker.update(UpdateRequest("offline", 1, 5))
        assert equal(before, kept)
        after = taken()
        assert not all(torch.equal(value, after[name]) for name, value in kept.items())


def test_weights_are_all_that_acting_needs(subject: Subject) -> None:
    worker = subject.worker()
    worker.update(UpdateRequest("offline", 0, 2))
    agent = build_agent(subject.task, replace(subject.config, seed=7))
    fresh = {name: value.clone() for name, value in agent.state_dict().items()}
    agent.load_state_dict(worker.weights())
    assert equal(agent.state_dict(), worker.weights())
    assert not equal(agent.state_dict(), fresh)


def test_truncation_is_not_termination(subject: Subject) -> None:
    """The same steps, but for how their episodes end: other values are learnt of them."""
    baseline = subject.config
    if subject.episode is forgetful_episode:
        pytest.skip("of incomplete episodes no values are learnt")
    if baseline.family == "world_action":
        training = replace(baseline.method.training, objective="conservative_q")
        baseline = with_method(baseline, training=training)
    if baseline.family == "imagination":
        baseline = with_method(baseline, training=replace(baseline.method.training, foundation_share=1.0))
    values = {}
    for ending in ("terminated", "time_limit", "cut"):
        worker = replace(subject, config=baseline).worker(ending)
        worker.update(UpdateRequest("offline", 4, 4))
        values[ending] = [
            value
            for name, value in worker.weights().items()
            if name.startswith(("values.critics", "model.q_head"))
        ]
    for ending in ("time_limit", "cut"):
        assert not all(map(torch.equal, values["terminated"], values[ending]))
    assert all(map(torch.equal, values["cut"], values["time_limit"])), "values know of steps, not of time limits"


def test_ends_are_learnt_where_they_are_read(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trajectory models read a window's last position, world-action models any: plans begin at all of them."""
    worker, seen = subject.worker(), []
    if worker.family.segments_per_step(subject.config) == 0:
        pytest.skip("learns from single steps")

    def record(segments: SegmentBatch, transitions: object, *, stage: str, step: int) -> dict[str, torch.Tensor]:
        seen.append(segments)
        return {}

    monkeypatch.setattr(worker.learner, "update", record)
    for stage in ("offline", "online"):
        seen.clear()
        worker.update(UpdateRequest(stage, 0, 40, 0.5))
        valid = np.concatenate([segments.valid for segments in seen])
        assert (valid[:, -1].all()) == (subject.config.family != "world_action")
        if subject.config.family == "world_action":
            windows = [TokenWindows.of(segments, torch.device("cpu")) for segments in seen]
            assert torch.cat([each.terminated for each in windows]).any(dim=0).all()


def test_an_update_with_a_poisoned_gradient_is_left_out(subject: Subject) -> None:
    worker = subject.worker()

    def poison(parameters: Iterable[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.view(-1)[0] = float("nan")

    averaging = [each for each in (worker.learner, getattr(worker.learner, "critics", None)) if each is not None]
    worker.update(UpdateRequest("offline", 4, 1))
    before = worker.state()
    for each in averaging:
        each.average_gradients = poison
    assert worker.update(UpdateRequest("offline", 5, 1)) == {SKIPPED: 1.0}
    assert equal(before, worker.state())
    for each in averaging:
        each.average_gradients = keep_gradients
    metrics = worker.update(UpdateRequest("offline", 7, 1))
    assert metrics[SKIPPED] == 0.0
    assert all(np.isfinite(value) for value in metrics.values())
    assert not equal(before, worker.state())


def test_what_is_never_a_number_is_named_with_its_step(subject: Subject) -> None:
    worker = subject.worker()
    with torch.no_grad():
        for parameter in worker.agent.model.parameters():
            parameter.fill_(float("nan"))
    for first in (5, 10):
        assert worker.update(UpdateRequest("offline", first, 5))[SKIPPED] == 5.0
    with pytest.raises(LearningDiverged, match=r"^\S+ has not been finite in 11 updates, .* update step 15;"):
        worker.update(UpdateRequest("offline", 15, 5))
