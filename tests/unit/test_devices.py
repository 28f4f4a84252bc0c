"""Devices: every draw is made where its generator is, and a process is prepared for the device it works on."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch

from system.config import RunConfig
from system.distributed.placement import see_own_gpus
from system.errors import ConfigError
from system.evaluation.behaviour_policies import NoisyPolicy, SampledPolicy
from system.evaluation.pong_tracker import PongTracker
from system.models.devices import prepare_process, resolve_device
from system.models.distributions import CategoricalActions, SquashedNormal
from system.models.gaussian_policy import GaussianPolicy
from system.planning.history import History
from system.planning.random_policies import RandomButtons, RandomVectors

ROWS = np.array([0, 1])


@pytest.fixture
def strict_draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Draws from a generator must say that they are made on its device, as a generator of a GPU demands."""
    drawn: list[str] = []

    def strictly(name: str, draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def checked(*arguments: Any, **named: Any) -> torch.Tensor:
            generator = named.get("generator")
            if generator is not None:
                assert named.get("device") == generator.device, f"torch.{name} takes the default device"
                drawn.append(name)
            return draw(*arguments, **named)

        return checked

    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, strictly(name, getattr(torch, name)))
    return drawn


def frames() -> History:
    return History(2, 2, (84, 84), (), observation_dtype=np.uint8, action_dtype=np.int64)


@pytest.mark.parametrize(
    ("policy", "history"),
    [
        (RandomVectors(3), History(2, 1, 4, 3)),
        (RandomButtons((0, 2)), frames()),
        (NoisyPolicy(RandomVectors(3), 0.1), History(2, 1, 4, 3)),
        (SampledPolicy(GaussianPolicy(4, 3, 8)), History(2, 1, 4, 3)),
        (PongTracker([0.5], (0, 2, 3)), frames()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_policies_draw_on_the_device_of_the_generator(
    policy: Any, history: History, strict_draws: list[str]
) -> None:
    action = policy.act(history, ROWS, torch.Generator().manual_seed(0)).action
    assert isinstance(action, np.ndarray) and len(action) == 2
    assert strict_draws


def test_distributions_draw_on_their_own_device(strict_draws: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    SquashedNormal(torch.zeros(2, 3), torch.zeros(2, 3)).sample(4, generator)
    CategoricalActions(torch.zeros(2, 3)).sample(4, generator)
    assert strict_draws == ["randn"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a process with a GPU is told."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: told.update(cudnn=on))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: told.update(deterministic=on))
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: told.update(products=precision))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    return told


def test_a_process_with_a_gpu_is_prepared(calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_process(RunConfig())
    assert calls == {"cudnn": False, "deterministic": False, "products": "high"}
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    prepare_process(RunConfig(deterministic=True))
    assert calls == {"cudnn": False, "deterministic": True, "products": "highest"}
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert resolve_device(RunConfig()) == torch.device("cuda")
    prepare_process(RunConfig(precision="float32"))
    assert calls["products"] == "highest"


def test_on_a_cpu_nothing_is_changed(calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_process(RunConfig(device="cpu", deterministic=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    prepare_process(RunConfig(deterministic=True))
    assert calls == {}
    with pytest.raises(ConfigError, match="device: cuda, but torch finds none here"):
        resolve_device(RunConfig(device="cuda"))


@pytest.mark.parametrize(
    ("device", "share", "gpus_there", "hidden"),
    [("auto", 0, 1, True), ("auto", 0.5, 1, False), ("auto", 0, 0, False), ("cuda", 0, 1, False)],
)
def test_an_actor_without_a_share_sees_no_gpu(
    device: Any, share: float, gpus_there: int, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, **({"GPU": 1.0} if gpus_there else {})})
    options = see_own_gpus({"num_cpus": 1, "num_gpus": share}, RunConfig(device=device))
    assert (options.get("runtime_env") == {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}) == hidden
    assert options["num_gpus"] == share
