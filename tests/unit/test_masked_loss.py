"""The masked family's joint loss: each term with its sign, weight and divisor, and what it brings about."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from configs import masked_config

from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.statistics import compute_statistics
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import M3PCLearner, tokens_of, trajectory_losses
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    REWARDS,
    STATES,
    empty_mask,
    sample_training_mask,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.models.distributions import SquashedNormal
from system.seeding import numpy_generator
from system.types import SegmentBatch, TaskSpec
from tests.support.dataset_factory import make_episode

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=12)
LENGTH = 4
BATCH = 3


def config(**training: Any) -> Any:
    return masked_config(
        model=ModelConfig(context_length=LENGTH, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
        training=TrajectoryTrainingConfig(**{"warmup_steps": 0, "mask_shares": {}, **training}),
    )


class KnownModel(MaskedTrajectoryModel):
    """Its predictions are given: `decoded` holds them, one modality each."""

    def __init__(self, states: torch.Tensor, returns: torch.Tensor, rewards: torch.Tensor, policy: Any) -> None:
        torch.nn.Module.__init__(self)
        self.states, self.scalars, self.policy = states, {RETURNS: returns, REWARDS: rewards}, policy
        self.observation_std = torch.tensor([2.0, 4.0])
        self.return_scale, self.reward_scale = torch.tensor([7.0, 5.0]), torch.tensor([3.0, 0.5])

    def forward(self, tokens: Tokens, mask: np.ndarray) -> torch.Tensor:
        return torch.arange(4.0)[None, :, None, None].expand(BATCH, 4, LENGTH, 1)

    def predict_states(self, decoded: torch.Tensor, tokens: Tokens, mask: np.ndarray, first: int) -> torch.Tensor:
        assert (decoded == STATES).all()
        assert first == 0
        return self.states

    def predict_scalar(self, decoded: torch.Tensor, modality: int) -> torch.Tensor:
        assert (decoded == modality).all()
        return self.scalars[modality]

    def predict_actions(self, decoded: torch.Tensor) -> Any:
        assert (decoded == ACTIONS).all()
        return self.policy


def test_every_term_is_what_its_formula_says() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    valid = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    known = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]]).float()
    tokens = Tokens(
        draw(BATCH, LENGTH, 2), draw(BATCH, LENGTH), draw(BATCH, LENGTH, 1).tanh(), draw(BATCH, LENGTH), valid
    )
    policy = SquashedNormal(draw(BATCH, LENGTH, 1), draw(BATCH, LENGTH, 1))
    model = KnownModel(draw(BATCH, LENGTH, 2), draw(BATCH, LENGTH), draw(BATCH, LENGTH), policy)
    noise, target = draw(BATCH, LENGTH, 1), -1.5
    mask = empty_mask(LENGTH)
    mask[ACTIONS, [0, 2]] = True  # steps 1 and 3 are hidden
    losses = trajectory_losses(model, tokens, known, mask, noise, target)

    sums = dict.fromkeys(losses, 0.0)
    errors, likelihoods, entropies = (
        each.tolist()
        for each in (
            policy.reconstruction_error(tokens.actions),
            policy.log_prob(tokens.actions),
            policy.entropy(noise),
        )
    )
    for row in range(BATCH):
        for step in range(LENGTH):
            if known[row, step]:
                sums["returns"] += ((model.scalars[RETURNS] - tokens.returns)[row, step].item() / 5.0) ** 2
            if not valid[row, step]:
                continue
            difference = (model.states - tokens.states)[row, step].tolist()
            sums["states"] += ((difference[0] / 2.0) ** 2 + (difference[1] / 4.0) ** 2) / 2
            sums["rewards"] += ((model.scalars[REWARDS] - tokens.rewards)[row, step].item() / 0.5) ** 2
            if step in (0, 2):
                sums["visible_actions"] += errors[row][step]
            else:
                sums["nll"] -= likelihoods[row][step]
                sums["entropy_excess"] += entropies[row][step] - target
    for name, total in sums.items():
        divisor = BATCH * 2 if name in ("nll", "entropy_excess") else BATCH * LENGTH
        assert losses[name].item() == pytest.approx(total / divisor, rel=1e-5), name


def test_without_hidden_actions_nothing_is_divided_by_nothing() -> None:
    zeros = torch.zeros(BATCH, LENGTH)
    policy = SquashedNormal(zeros[..., None], zeros[..., None])
    tokens = Tokens(torch.zeros(BATCH, LENGTH, 2), zeros, zeros[..., None], zeros, zeros == 0.0)
    model = KnownModel(torch.zeros(BATCH, LENGTH, 2), zeros, zeros, policy)
    mask = empty_mask(LENGTH)
    mask[ACTIONS] = True
    losses = trajectory_losses(model, tokens, zeros, mask, zeros[..., None], -1.0)
    assert losses["nll"].item() == losses["entropy_excess"].item() == 0.0


def test_each_hidden_action_counts_by_its_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(BATCH, LENGTH)
    actions = torch.randn(BATCH, LENGTH, 1, generator=generator).tanh()
    policy = SquashedNormal(torch.randn(BATCH, LENGTH, 1, generator=generator), zeros[..., None])
    tokens = Tokens(torch.zeros(BATCH, LENGTH, 2), zeros, actions, zeros, zeros == 0.0)
    model = KnownModel(torch.zeros(BATCH, LENGTH, 2), zeros, zeros, policy)
    mask = empty_mask(LENGTH)
    mask[ACTIONS, 0] = True
    weights = torch.rand(BATCH, LENGTH, generator=generator)
    losses = trajectory_losses(model, tokens, zeros, mask, zeros[..., None], -1.0, weights)
    expected = -(policy.log_prob(actions) * weights)[:, 1:].mean()
    assert losses["nll"].item() == pytest.approx(expected.item(), rel=1e-5)


class Gradients:
    """Stands in for a group's all-reduce: keeps what it is shown, and changes nothing."""

    def __init__(self) -> None:
        self.shown: list[list[torch.Tensor]] = []

    def __call__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.shown.append([each.grad.clone() for each in parameters if each.grad is not None])


@pytest.fixture(scope="module")
def store() -> EpisodeStore:
    return EpisodeStore.from_episodes(
        [make_episode(4 + index, "terminated", index, TASK) for index in range(8)], discount=0.99
    )


def segments_of(store: EpisodeStore) -> SegmentBatch:
    rows = np.arange(8)
    return gather_segments(store, rows, store.lengths[rows] - 1, LENGTH)


def make_learner(store: EpisodeStore, gradients: Gradients, **training: Any) -> M3PCLearner:
    made = config(**training)
    agent = TrajectoryAgent(TASK, made)
    agent.set_statistics(compute_statistics(store, TASK.max_episode_steps))
    return M3PCLearner(agent, made, average_gradients=gradients)


def losses_of(learner: M3PCLearner, segments: SegmentBatch, stage: str, step: int) -> dict[str, torch.Tensor]:
    """The terms of an update that is still to come: the same mask, the same noise."""
    inputs = learner._inputs(segments, stage, step)
    tokens, known = tokens_of(inputs), inputs["returns_known"].float()
    mask = sample_training_mask(LENGTH, {}, numpy_generator(learner.config.seed, "mask", stage, step))
    noise = learner._noise(segments, stage, step)
    return trajectory_losses(learner.agent.model, tokens, known, mask, noise, learner.target_entropy)


@pytest.mark.parametrize("stage", ["offline", "online"])
def test_the_gradient_is_that_of_the_sum_of_its_terms(store: EpisodeStore, stage: str) -> None:
    gradients, segments = Gradients(), segments_of(store)
    learner = make_learner(store, gradients)
    with torch.no_grad():
        learner.log_alpha.fill_(math.log(3.0))
        learner.agent.model.action_head.weight.mul_(300.0)
    terms = losses_of(learner, segments, stage, 5)
    total = sum(terms[name] for name in ("states", "returns", "rewards", "visible_actions", "nll"))
    parameters = [each for each in learner.agent.model.parameters()]
    expected = torch.autograd.grad(total - 3.0 * terms["entropy_excess"], parameters, allow_unused=True)
    metrics = learner.update(segments, [], stage=stage, step=5)
    shown = gradients.shown[0]
    for ours, theirs in zip(shown, [each for each in expected if each is not None], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-4)
    assert metrics["trajectory/alpha"].item() == pytest.approx(3.0)
    bound = learner.target_entropy
    assert metrics["trajectory/entropy"].item() == pytest.approx(terms["entropy_excess"].item() + bound, rel=1e-4)
    norm = math.sqrt(sum(each.square().sum().item() for each in shown))
    assert metrics["trajectory/gradient_norm"].item() == pytest.approx(norm, rel=1e-4)
    for name, value in terms.items():
        if name != "entropy_excess":
            assert metrics[f"trajectory/{name}_loss"].item() == pytest.approx(value.item(), rel=1e-4)


def entropy_after(store: EpisodeStore, alpha: float) -> float:
    """Of the actions, after some updates on always the same one in which α stays as it is."""
    learner = make_learner(store, Gradients(), entropy_learning_rate=0.0, learning_rate=3e-3)
    with torch.no_grad():
        learner.log_alpha.fill_(math.log(alpha))
    segments = segments_of(store)
    segments = replace(segments, actions=np.full_like(segments.actions, 0.3))
    for step in range(30):
        learner.update(segments, [], stage="offline", step=step)
    tokens = tokens_of(learner._inputs(segments, "offline", 0))
    with torch.no_grad():
        policy = learner.agent.model.predict_actions(learner.agent.model(tokens, empty_mask(LENGTH))[:, ACTIONS])
        return float(policy.entropy(torch.randn(8, LENGTH, 2, generator=torch.Generator().manual_seed(0))).mean())


def test_the_larger_alpha_is_the_more_entropy_the_actions_keep(store: EpisodeStore) -> None:
    assert entropy_after(store, 20.0) > entropy_after(store, 1e-6) + 0.5


def test_both_stages_warm_up_and_decay_from_rates_of_their_own(store: EpisodeStore) -> None:
    learner = make_learner(store, Gradients(), learning_rate=0.5, online_learning_rate=0.25, warmup_steps=10)
    total = round(learner.config.online.env_steps * learner.config.online.updates_per_env_step)
    end = 0.25 * learner.config.method.training.final_learning_rate_fraction
    expected = {("offline", 0): 0.05, ("online", 0): 0.025, ("online", 7): 0.2, ("online", total): end}
    for (stage, step), rate in expected.items():
        learner._set_learning_rate(stage, step)
        assert [group["lr"] for group in learner.optimizer.param_groups] == [pytest.approx(rate)] * 2


def test_a_group_agrees_on_the_gradient_of_alpha_too(store: EpisodeStore) -> None:
    gradients = Gradients()
    learner = make_learner(store, gradients)
    learner.update(segments_of(store), [], stage="offline", step=0)
    assert [len(each) for each in gradients.shown] == [len(list(learner.agent.model.parameters())), 1]


def test_shards_draw_their_rows_of_the_same_noise(store: EpisodeStore) -> None:
    made = config()
    agent = TrajectoryAgent(TASK, made)
    whole = M3PCLearner(agent, made)
    segments = segments_of(store)
    half = SegmentBatch(**{name: array[:4] for name, array in vars(segments).items()})
    expected = whole._noise(segments, "online", 3)
    parts = [M3PCLearner(agent, made, shard=(rank, 2))._noise(half, "online", 3) for rank in range(2)]
    assert torch.equal(torch.cat(parts), expected)
    assert not torch.equal(expected, whole._noise(segments, "offline", 3))
    assert not torch.equal(expected, whole._noise(segments, "online", 4))
