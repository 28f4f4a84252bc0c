"""Windows of token frames and an agent to match, for tests of the world-action learner."""

from dataclasses import replace

import numpy as np
import torch
from configs import with_method, world_config

from system.config import PretrainConfig, RunConfig
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.config import TokenizerConfig, WorldActionConfig, WorldActionTrainingConfig
from system.families.world_action.losses import TokenWindows
from system.types import SegmentBatch, TaskSpec

PONG, BREAKOUT, PER_FRAME, LENGTH, DISCOUNT = 39, 13, 4, 4, 0.9
TASK = TaskSpec("ALE/Pong-v5", 144, 18, 100, frame_shape=(12, 12), valid_actions=(0, 1, 3, 4, 11, 12), game=PONG)
CONFIG = world_config(
    discount=DISCOUNT,
    tokenizer=TokenizerConfig(vocabulary=9, tokens_per_side=2),
    model=WorldActionConfig(
        context_length=LENGTH, width=8, num_layers=2, num_heads=2, q_width=8, num_atoms=9, num_q_heads=2
    ),
    training=WorldActionTrainingConfig(batch_size=4, learning_rate=3e-3, warmup_steps=2, target_update_steps=3),
    pretrain=PretrainConfig(update_steps=8),
)


def draw_segments(rows: int = 4, seed: int = 0) -> SegmentBatch:
    """Windows padded on the left by 0, 1, 2, 3, 0 … steps; every other one ends in a terminal state."""
    generator = np.random.default_rng(seed)
    valid = np.arange(LENGTH) >= (np.arange(rows) % LENGTH)[:, None]
    terminated = np.zeros((rows, LENGTH), bool)
    terminated[1::2, -1] = True
    return SegmentBatch(
        observations=(generator.integers(9, size=(rows, LENGTH, PER_FRAME)) * valid[..., None]).astype(np.int16),
        actions=generator.choice([1, 3], size=(rows, LENGTH)) * valid,
        rewards=(generator.choice([-2.0, 0.0, 5.0], size=(rows, LENGTH)) * valid).astype(np.float32),
        returns_to_go=np.zeros((rows, LENGTH), np.float32),
        valid=valid,
        returns_valid=valid,
        terminated=terminated,
        game=np.where(np.arange(rows) % 4 < 2, PONG, BREAKOUT),
    )


def make_agent(config: RunConfig = CONFIG) -> WorldActionAgent:
    agent = WorldActionAgent(TASK, config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        # Away from the beginning, where all values are equal and target and online head are one.
        for parameter in [*agent.model.parameters(), *agent.target_head.parameters()]:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return agent


def windows_of(segments: SegmentBatch) -> TokenWindows:
    return TokenWindows.of(segments, torch.device("cpu"))


def hidden_of(agent: WorldActionAgent, windows: TokenWindows) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = agent.model(windows.tokens, windows.actions, windows.game)
    return hidden, hidden[:, :, PER_FRAME - 1]


def with_training(**changes: object) -> RunConfig:
    return with_method(CONFIG, training=replace(CONFIG.method.training, **changes))
