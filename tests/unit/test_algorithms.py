"""The losses and updates: closed forms, values of a chain that can be written down, exact continuation."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from configs import masked_config, with_method

from system.config import CriticConfig, PretrainConfig, RunConfig
from system.data.store.episodes import EpisodeStore, gather_segments, gather_transitions
from system.data.store.statistics import compute_statistics
from system.errors import LearningDiverged
from system.families.masked_trajectory import learner as learner_module
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import (
    LARGEST_ACTION_WEIGHT,
    M3PCLearner,
    learning_rate_at,
    trajectory_losses,
)
from system.families.registry import family_of
from system.models.distributions import SquashedNormal
from system.models.optimizer_state import keep_gradients
from system.types import TaskSpec, TransitionBatch
from system.values.critics import ValueNetworks
from system.values.iql import IQL, actor_loss, expectile_loss
from tests.support.dataset_factory import make_episode

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=12)
CONFIG = masked_config(
    model=ModelConfig(context_length=4, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
    critic=CriticConfig(hidden_width=16),
    training=TrajectoryTrainingConfig(warmup_steps=2, learning_rate=3e-3),
    pretrain=PretrainConfig(update_steps=80),
)


def test_the_expectile_loss_is_smallest_at_the_expectile() -> None:
    sample = torch.tensor([0.0, 1.0, 2.0, 7.0], dtype=torch.float64)
    grid = torch.linspace(0.0, 7.0, 701, dtype=torch.float64)
    losses = torch.stack([expectile_loss(sample - value, 0.8) for value in grid])
    best = grid[losses.argmin()]
    above, below = (sample - best).clamp(min=0).sum(), (best - sample).clamp(min=0).sum()
    assert (0.8 * above).item() == pytest.approx((0.2 * below).item(), abs=5e-2)
    assert grid[torch.stack([expectile_loss(sample - value, 0.5) for value in grid]).argmin()].item() == 2.5


def test_the_actor_imitates_better_actions_more() -> None:
    policy = SquashedNormal(torch.zeros(2, 1), torch.zeros(2, 1))
    actions = torch.tensor([[0.5], [0.0]])
    equal = actor_loss(policy, actions, torch.zeros(2), 3.0)
    assert equal.item() == pytest.approx(-policy.log_prob(actions).mean().item())
    weighted = actor_loss(policy, actions, torch.tensor([1.0, -100.0]), 3.0)
    assert weighted.item() == pytest.approx(-0.5 * np.exp(3.0) * policy.log_prob(actions)[0].item(), rel=1e-5)


def test_the_learning_rate_warms_up_and_falls() -> None:
    training = TrajectoryTrainingConfig(learning_rate=1.0, warmup_steps=10, final_learning_rate_fraction=0.1)
    rates = [learning_rate_at(training.learning_rate, training, step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("terminated", "expected"), [(True, [1.5, 1.0]), (False, [10.0, 10.0])])
def test_values_of_a_chain_stop_at_termination_and_go_on_at_truncation(
    terminated: bool, expected: list[float]
) -> None:
    """s0 → s1 → end, reward 1 each, γ 0.5; where s1 is cut instead, it leads back to s0 for ever: γ 0.9."""
    torch.manual_seed(0)
    discount = 0.5 if terminated else 0.9
    networks = ValueNetworks(2, 1, hidden_width=32, num_critics=2, layer_norm=False)
    networks.return_std.fill_(5.0)
    learner = IQL(networks, CriticConfig(learning_rate=2e-2, target_update_rate=0.2), discount, keep_gradients)
    states = np.eye(2, dtype=np.float32)
    batch = TransitionBatch(
        observations=np.repeat(states, 16, axis=0),
        actions=np.zeros((32, 1), np.float32),
        rewards=np.ones(32, np.float32),
        next_observations=np.repeat(states[::-1], 16, axis=0).copy(),
        terminated=np.repeat([False, terminated], 16),
    )
    for _ in range(250):
        learner.update(batch)
    with torch.no_grad():
        values = networks.q(torch.from_numpy(states), torch.zeros(2, 1))
    assert values.tolist() == pytest.approx(expected, abs=0.6)


@pytest.fixture(scope="module")
def store() -> EpisodeStore:
    return EpisodeStore.from_episodes(
        [make_episode(4 + index, "terminated", index, TASK) for index in range(8)], discount=CONFIG.discount
    )


def make_learner(store: EpisodeStore, config: RunConfig = CONFIG) -> M3PCLearner:
    agent = TrajectoryAgent(TASK, config)
    agent.set_statistics(compute_statistics(store, TASK.max_episode_steps))
    return M3PCLearner(agent, config)


def update(learner: M3PCLearner, store: EpisodeStore, step: int) -> dict[str, float]:
    generator = np.random.default_rng(step)
    episode = generator.integers(store.num_episodes, size=16)
    last = (generator.random(16) * store.lengths[episode]).astype(np.int64)
    metrics = learner.update(
        gather_segments(store, episode, last, 4),
        [gather_transitions(store, episode, last)],
        stage="offline",
        step=step,
    )
    return {name: float(value) for name, value in metrics.items()}


def test_losses_fall(store: EpisodeStore) -> None:
    learner = make_learner(store)
    history = [update(learner, store, step) for step in range(80)]
    for name in ("trajectory/nll_loss", "trajectory/rewards_loss", "trajectory/returns_loss"):
        early, late = (np.mean([each[name] for each in part]) for part in (history[:15], history[-15:]))
        assert late < early, name


def test_a_restored_learner_goes_on_bit_for_bit(store: EpisodeStore) -> None:
    learner, other = make_learner(store), make_learner(store)
    for step in range(5):
        update(learner, store, step)
    other.load_state(learner.state())
    for step in range(5, 10):
        assert update(learner, store, step) == update(other, store, step)
    ours, theirs = learner.state(), other.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_online_actions_count_by_their_advantage_and_offline_ones_alike(store: EpisodeStore) -> None:
    training = replace(CONFIG.method.training, online_advantage_temperature=50.0)
    plain, weighing = make_learner(store), make_learner(store, with_method(CONFIG, training=training))
    segments = gather_segments(store, np.arange(8), np.full(8, 3), 4)
    first = [learner.update(segments, [], stage="offline", step=0) for learner in (plain, weighing)]
    assert first[0]["trajectory/nll_loss"] == first[1]["trajectory/nll_loss"]
    seen: list[torch.Tensor | None] = []

    def losses(*arguments: Any) -> dict[str, torch.Tensor]:
        seen.append(arguments[-1])
        return trajectory_losses(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner_module, "trajectory_losses", losses)
        for learner in (plain, weighing):
            learner.update(segments, [], stage="online", step=0)
    assert seen[0] is None
    values = weighing.agent.values
    states = torch.tensor(segments.observations).flatten(0, 1)
    with torch.no_grad():
        q = values.standardized_q(states, torch.tensor(segments.actions).flatten(0, 1), target=True).amin(0)
        expected = torch.exp(50.0 * (q - values.standardized_v(states))).clamp(max=LARGEST_ACTION_WEIGHT)
    assert seen[1] is not None and torch.equal(seen[1].flatten(), expected)
    assert 0.0 < expected.min() < expected.max() <= LARGEST_ACTION_WEIGHT


def test_critics_learnt_on_another_core_learn_the_same(store: EpisodeStore) -> None:
    critics = [replace(CONFIG.method.critic, beside=beside) for beside in (False, True)]
    learners = [make_learner(store, with_method(CONFIG, critic=critic)) for critic in critics]
    threads: list[set[str]] = [set(), set()]
    for learner, names in zip(learners, threads, strict=True):
        plain = learner.critics.update

        def update_and_note(batch: TransitionBatch, plain: Any = plain, names: set[str] = names) -> Any:
            names.add(threading.current_thread().name)
            return plain(batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner.critics, "update", update_and_note)
            for step in range(4):
                update(learner, store, step)
    ours, theirs = (learner.state() for learner in learners)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert threads[0] == {"MainThread"} and "MainThread" not in threads[1] and threads[1]


def test_a_failure_of_the_critics_on_another_core_is_raised(store: EpisodeStore) -> None:
    learner = make_learner(store)

    def fail(batch: TransitionBatch) -> None:
        raise FloatingPointError("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner.critics, "update", fail)
        with pytest.raises(FloatingPointError, match="no"):
            update(learner, store, 0)


def test_the_online_stage_may_have_its_own_number_of_critic_updates() -> None:
    critic = replace(CONFIG.method.critic, updates_per_step=5)
    family = family_of(CONFIG)
    numbers = {
        own: [
            family.transition_batches(
                with_method(CONFIG, critic=replace(critic, online_updates_per_step=own)), stage
            )[0]
            for stage in ("offline", "online")
        ]
        for own in (None, 0, 20)
    }
    assert numbers == {None: [5, 5], 0: [5, 0], 20: [5, 20]}


def test_the_running_average_of_the_weights_acts(store: EpisodeStore) -> None:
    learner = make_learner(store)
    decay = CONFIG.method.training.weight_average
    name = next(each for each in learner.weights() if each.startswith("model.") and each.endswith("weight"))
    expected = learner.weights()[name]
    for step in range(3):
        update(learner, store, step)
        kept = min(decay, (step + 1) / (step + 10))
        newest = learner.agent.state_dict()[name]
        expected = kept * expected + (1.0 - kept) * newest
        assert torch.allclose(learner.weights()[name], expected, atol=1e-7)
    assert not torch.equal(learner.weights()[name], newest)
    state = learner.state()
    assert torch.equal(state[f"agent.{name}"], learner.weights()[name]), "a checkpoint acts like the run"
    assert torch.equal(state[f"newest.{name.removeprefix('model.')}"], newest)


def test_alpha_rises_while_the_entropy_is_under_its_bound(store: EpisodeStore) -> None:
    learner = make_learner(store)
    before = learner.log_alpha.item()
    learner._update_alpha(torch.tensor(-1.0), torch.tensor(1.0))
    assert learner.log_alpha.item() > before
    learner._update_alpha(torch.tensor(5.0), torch.tensor(1.0))
    learner._update_alpha(torch.tensor(5.0), torch.tensor(1.0))
    assert learner.log_alpha.item() < before
    stayed = learner.log_alpha.item()
    learner._update_alpha(torch.tensor(float("nan")), torch.tensor(float("nan")))
    assert learner.log_alpha.item() == stayed


def test_learning_that_diverges_is_named_and_ended(store: EpisodeStore) -> None:
    from system.data.replay.buffer import ReplayBuffer
    from system.training.learner_worker import LearnerWorker
    from system.training.protocols import UpdateRequest

    replay = ReplayBuffer(store, context_length=4, max_episode_steps=TASK.max_episode_steps)
    worker = LearnerWorker(TASK, CONFIG, compute_statistics(store, TASK.max_episode_steps), replay)
    with torch.no_grad():
        worker.agent.values.actor_log_std.fill_(float("nan"))
    message = r"^critic/\S+ has not been finite in 11 updates, the latest of them offline update step 13;"
    with pytest.raises(LearningDiverged, match=message):
        worker.update(UpdateRequest("offline", 3, 20))
