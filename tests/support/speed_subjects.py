"""What speeds are measured on: models with random weights, and random inputs of the right shapes.

Needs torch and NumPy alone, so that a bare machine can measure too.
"""

import numpy as np
import torch

from system.config import RunConfig
from system.decisions import TokenContext
from system.families.world_action.config import WorldActionConfig
from system.families.world_action.model import WorldActionModel
from system.planning.history import History
from system.types import SegmentBatch, TaskSpec, TransitionBatch

NUM_BUTTONS = 18
CHANGING = 0.1


def vector_segments(task: TaskSpec, batch_size: int, length: int, *, padded: float = 0.1) -> SegmentBatch:
    """Windows of random vectors, some of them padded on the left by half."""
    generator = np.random.default_rng(0)
    shape = (batch_size, length)
    valid = np.ones(shape, dtype=bool)
    valid[: round(padded * batch_size), : length // 2] = False
    return SegmentBatch(
        observations=generator.normal(size=(*shape, task.observation_dim)).astype(np.float32),
        actions=generator.uniform(-0.9, 0.9, size=(*shape, task.action_dim)).astype(np.float32),
        rewards=generator.normal(size=shape).astype(np.float32),
        returns_to_go=generator.normal(size=shape).astype(np.float32),
        valid=valid,
        returns_valid=valid,
        terminated=np.zeros(shape, dtype=bool),
        game=np.zeros(batch_size, dtype=np.int64),
    )


def vector_transitions(task: TaskSpec, batch_size: int) -> TransitionBatch:
    """Random steps, one in ten of them the last."""
    generator = np.random.default_rng(1)
    observations, following = generator.normal(size=(2, batch_size, task.observation_dim)).astype(np.float32)
    return TransitionBatch(
        observations=observations,
        actions=generator.uniform(-0.9, 0.9, size=(batch_size, task.action_dim)).astype(np.float32),
        rewards=generator.normal(size=batch_size).astype(np.float32),
        next_observations=following,
        terminated=generator.random(batch_size) < 0.1,
    )


def vector_history(task: TaskSpec, num_environments: int, length: int) -> History:
    """A full window of random steps of every environment."""
    generator = np.random.default_rng(2)

    def observed() -> np.ndarray:
        return generator.normal(size=(num_environments, task.observation_dim)).astype(np.float32)

    history = History(num_environments, length, task.observation_dim, task.action_dim)
    history.reset(range(num_environments), observed())
    for _ in range(length):
        actions = generator.uniform(-0.9, 0.9, size=(num_environments, task.action_dim)).astype(np.float32)
        history.append(actions, observed(), np.ones(num_environments, dtype=bool))
    return history


def token_segments(task: TaskSpec, config: RunConfig) -> SegmentBatch:
    """Whole windows of random tokens, actions and rewards."""
    shape = (config.method.training.batch_size, config.method.model.context_length)
    generator = np.random.default_rng(0)
    full = np.ones(shape, dtype=bool)
    tokens = config.method.tokenizer.tokens_per_side**2
    return SegmentBatch(
        observations=generator.integers(config.method.tokenizer.vocabulary, size=(*shape, tokens)).astype(
            np.int16
        ),
        actions=generator.choice(task.valid_actions, size=shape),
        rewards=generator.integers(-1, 2, size=shape).astype(np.float32),
        returns_to_go=np.zeros(shape, np.float32),
        valid=full,
        returns_valid=full,
        terminated=np.zeros(shape, dtype=bool),
        game=np.full(shape[0], task.game),
    )


def token_context(num_environments: int, length: int, vocabulary: int, tokens: int) -> TokenContext:
    """Frames in which few tokens are not 0, so that little changes from one to the next."""
    generator = torch.Generator().manual_seed(0)
    shape = (num_environments, length, tokens)
    other = torch.rand(shape, generator=generator) < CHANGING
    return TokenContext(
        tokens=torch.randint(vocabulary, shape, generator=generator) * other,
        actions=torch.randint(NUM_BUTTONS, (num_environments, length - 1), generator=generator),
        valid=torch.ones(num_environments, length, dtype=torch.bool),
        game=torch.zeros(num_environments, dtype=torch.int64),
        valid_actions=torch.ones(num_environments, NUM_BUTTONS, dtype=torch.bool),
    )


def world_model(config: WorldActionConfig, *, vocabulary: int, tokens_per_frame: int) -> WorldActionModel:
    """Untrained, but with values that depend on what is read."""
    torch.manual_seed(0)
    model = WorldActionModel(
        vocabulary=vocabulary,
        tokens_per_frame=tokens_per_frame,
        num_actions=NUM_BUTTONS,
        num_games=1,
        config=config,
    ).eval()
    with torch.no_grad():
        torch.nn.init.normal_(model.q_head.output.weight, std=0.1)
    return model


@torch.no_grad()
def settle(model: WorldActionModel, context: TokenContext) -> None:
    """Sets how surely tokens stay as they are so that `CHANGING` of those that are predicted do not."""
    actions = torch.cat([context.actions, context.actions[:, -1:]], dim=1)
    hidden = model(context.tokens, actions, context.game)[:, 1:, : context.tokens.shape[2] - 1]
    previous = context.tokens[:, :-1, 1:]
    probability = model.token_head.head(hidden).softmax(dim=-1)
    gap = probability.amax(dim=-1) - probability.gather(-1, previous[..., None])[..., 0]
    model.token_head.bias.copy_(gap.flatten().quantile(1.0 - CHANGING).log())
