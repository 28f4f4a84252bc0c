"""The device that a process learns and plans on, and how torch works there."""

import os

import torch

from system.config import RunConfig
from system.errors import ConfigError


def resolve_device(config: RunConfig) -> torch.device:
    """The device to learn and plan on: as configured, or CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for, and this process finds none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda, but torch finds none here; auto takes what there is")
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare_process(config: RunConfig) -> None:
    """Threads, kernels and their exactness, for the whole process; to be called before anything is computed.

    On CUDA, attention leaves cuDNN's kernels out: these are planned anew, on the CPU, for every shape. Products of
    float32 matrices take TF32, 10 bits of mantissa in place of 23, unless `precision: float32` or `deterministic`
    asks for more. With `deterministic`, kernels that give the same bits each time are taken, and an operation that
    has none raises.
    """
    torch.set_num_threads(config.num_threads)
    if config.device == "cpu" or not torch.cuda.is_available():
        return
    torch.backends.cuda.enable_cudnn_sdp(False)
    is_exact = config.deterministic or config.precision == "float32"
    torch.set_float32_matmul_precision("highest" if is_exact else "high")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read at its first use
    torch.use_deterministic_algorithms(config.deterministic)
