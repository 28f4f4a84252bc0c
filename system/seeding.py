"""One seed tree: every random stream is derived from the run's seed and a path of names and counters.

Nothing draws from a global generator, so a stream does not depend on how many draws another made, on
which process makes them, or on whether the run was stopped and resumed in between.
"""

import hashlib

import numpy as np
import torch

Part = str | int


def derive_seed(seed: int, *path: Part) -> int:
    """A seed in [0, 2**63) that depends on the run's seed and on the whole path.

    Args:
        seed: the run's seed.
        path: names and counters, for example `("rollout", worker, episode)`.
    """
    text = "/".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, *path: Part) -> np.random.Generator:
    """A NumPy generator for the stream named by `path`."""
    return np.random.default_rng(derive_seed(seed, *path))


def torch_generator(seed: int, *path: Part, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on `device` for the stream named by `path`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(derive_seed(seed, *path))
    return generator
