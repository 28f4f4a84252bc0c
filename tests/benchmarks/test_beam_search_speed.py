"""Beam search against its naive form on the same weights, in the same run and interleaved; batched; in bfloat16.

Weights are drawn at random, then biased so that one token in ten of an imagined frame differs from the frame
before, as in Pong; `restless` leaves them as they are, and nearly all differ. With such weights the best actions
are nearly tied, and what bfloat16 rounds decides between them more often than with trained ones. Times are of the
CPU: what else the machine does counts less.
"""

import operator
import statistics
import time
from collections.abc import Callable

import pytest
import torch

from system.config import PlannerConfig
from system.decisions import TokenContext
from system.families.world_action.config import TokenizerConfig, WorldActionConfig
from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.families.world_action.imagination import WorldActionImagination
from system.models.optimizer_state import mixed_precision
from system.planning.beam_search import beam_search
from system.training.process_memory import keep_freed_memory
from tests.support.naive_beam_search import naive_actions
from tests.support.speed_subjects import settle, token_context, world_model

DISCOUNT = 0.99
ROUNDS = 3
MANY = 8
SIZES = {
    "default": WorldActionConfig(),
    "40M": WorldActionConfig(width=512, num_layers=4, num_heads=8, q_width=768),
}

CASES = [
    ("default", 2, "settled"),
    ("default", 4, "settled"),
    ("default", 4, "restless"),
    ("40M", 2, "settled"),
    ("40M", 4, "settled"),
]


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


@pytest.mark.benchmark
@pytest.mark.parametrize("size, width, world", CASES)
@torch.no_grad()
def test_beam_search_against_its_naive_form(
    size: str, width: int, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_freed_memory()
    tokenizer = FrameTokenizer(TokenizerConfig()).eval()
    sizes = {"vocabulary": tokenizer.vocabulary_size, "tokens_per_frame": tokenizer.num_tokens}
    model = world_model(SIZES[size], **sizes)
    imagination = WorldActionImagination(model, DISCOUNT)
    config = PlannerConfig(name="beam_search", horizon=2, beam_width=width, td_lambda=1.0, select="argmax")
    length = model.context_length - config.horizon
    alone, many = (
        token_context(number, length, tokenizer.vocabulary_size, tokenizer.num_tokens) for number in (1, MANY)
    )
    if world == "settled":
        settle(model, many)
    actions: dict[str, list[int]] = {}

    def plan(context: TokenContext, precision: str = "float32") -> None:
        with mixed_precision(precision, torch.device("cpu")):
            plan = beam_search(imagination, context, config=config, generator=torch.Generator())
        actions[precision] = plan.action.tolist()

    def decode(tokens: torch.Tensor) -> torch.Tensor:
        return tokenizer.decode(tokens, torch.zeros(len(tokens), dtype=torch.int64))

    def naive() -> None:
        actions["naive"] = naive_actions(model, decode, alone, config, DISCOUNT)

    calls: dict[str, Callable[[], None]] = {
        "naive": naive,
        "float32": lambda: plan(alone),
        "bfloat16": lambda: plan(alone, "bfloat16"),
        f"{MANY} environments, float32": lambda: plan(many),
        f"{MANY} environments, bfloat16": lambda: plan(many, "bfloat16"),
    }
    for call in calls.values():
        call()
    agreeing = sum(map(operator.eq, actions["float32"], actions["bfloat16"]))
    calls["float32"]()
    assert actions["float32"] == actions["naive"]
    rounds = [[seconds(call) for call in calls.values()] for _ in range(ROUNDS)]
    medians = dict(zip(calls, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    with capsys.disabled():
        print(f"\n{size}, {world} frames, horizon 2, beam {width}; same action in bfloat16: {agreeing}/{MANY}")
        for name, taken in medians.items():
            decisions = MANY if str(MANY) in name else 1
            rate = decisions * medians["naive"] / taken
            print(f"    {name}: {1e3 * taken:.0f} ms, {rate:.1f} x the decisions of the naive form")
