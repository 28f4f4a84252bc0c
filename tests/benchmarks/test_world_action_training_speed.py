"""Tokens per second of a joint training update, against the plain form of the same loss, interleaved.

The plain form runs the world losses and the value losses each with a forward and backward pass of their own, as if
they were two models; its gradient is the same. Times are of the CPU: what else the machine does counts less.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from configs import world_config
from torch import nn

from system.envs.registry import find_task
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.config import WorldActionConfig, WorldActionTrainingConfig
from system.families.world_action.learner import WorldActionLearner
from system.families.world_action.losses import TokenWindows, backups, value_losses, world_losses
from system.types import SegmentBatch
from tests.support.speed_subjects import token_segments

TASK = find_task("ALE/Pong-v5")
ROUNDS = 3
CASES = {
    "default": (WorldActionConfig(), 16),
    "40M": (WorldActionConfig(width=512, num_layers=4, num_heads=8, q_width=768), 2),
}


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def plain_update(learner: WorldActionLearner, segments: SegmentBatch) -> float:
    """The same update with the two kinds of losses apart; returns the norm of the gradient."""
    agent, model, config = learner.agent, learner.agent.model, learner.config
    windows = TokenWindows.of(segments, learner.device)
    model.zero_grad(set_to_none=True)
    world = world_losses(model, model(windows.tokens, windows.actions, windows.game), windows)
    (config.method.training.world_weight * (world["token"] + world["reward"] + world["end"])).backward()
    features = model(windows.tokens, windows.actions, windows.game)[:, :, model.tokens_per_frame - 1]
    plan = backups(windows, config.discount, config.method.training.bootstrap_steps)
    value = value_losses(agent, features, features.detach(), windows, plan)
    (value["td"] + config.method.training.conservative_weight * value["conservative"]).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.method.training.gradient_clip)
    learner.optimizers["world_action_optimizer"].step()
    return norm.item()


@pytest.mark.benchmark
@pytest.mark.parametrize("size", CASES)
def test_training_tokens_per_second(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    world, batch_size = CASES[size]
    config = world_config(
        precision="float32",
        model=world,
        training=WorldActionTrainingConfig(batch_size=batch_size, world_share=0.0, target_update_steps=1_000_000),
    )
    segments = token_segments(TASK, config)
    agent = WorldActionAgent(TASK, config)
    single, plain, half = (
        WorldActionLearner(copy.deepcopy(agent), each)
        for each in (config, config, replace(config, precision="bfloat16"))
    )

    def update(learner: WorldActionLearner) -> float:
        return learner.update(segments, [], stage="online", step=1)["jowa/gradient_norm"].item()

    calls = (lambda: update(single), lambda: plain_update(plain, segments), lambda: update(half))
    norms = [call() for call in calls]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4), "another gradient was timed"
    assert norms[0] == pytest.approx(norms[2], rel=0.1)
    rounds = [[seconds(call) for call in calls] for _ in range(ROUNDS)]
    ours, apart, halved = (statistics.median(column) for column in zip(*rounds, strict=True))
    tokens = segments.observations.size + segments.actions.size
    parameters = sum(parameter.numel() for parameter in agent.model.parameters()) / 1e6
    with capsys.disabled():
        print(
            f"\n{size} ({parameters:.1f} M), batch {batch_size}: {tokens / ours:.0f} tokens/s; "
            f"losses apart {tokens / apart:.0f}, {apart / ours:.2f} x; "
            f"bfloat16 {tokens / halved:.0f}, {ours / halved:.2f} x"
        )
