"""The one definition of return-to-go."""

import numpy as np
from jaxtyping import Float, Float32


def returns_to_go(rewards: Float[np.ndarray, "L"], discount: float) -> Float32[np.ndarray, "L"]:
    """Discounted sum of the observed rewards from every step on, that step's own reward included.

    g_t = Σ_{k=t}^{L−1} γ^{k−t} r_k. Whether the sum is all there is to come (the episode is complete) is
    not this function's business: `SegmentBatch.returns_valid` says it.

    Args:
        rewards: r_0 … r_{L−1}, in the task's own units.
        discount: γ in [0, 1].

    Returns:
        g_0 … g_{L−1}, summed in float64 and rounded once.
    """
    sums = np.empty(len(rewards), dtype=np.float64)
    running = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        running = float(rewards[step]) + discount * running
        sums[step] = running
    return sums.astype(np.float32)
