"""The samples-per-insert limiter: how far rollouts and learners may run ahead of each other.

With I env steps inserted, U update steps made, ρ updates per env step and tolerance δ in env steps:

    n updates are allowed   ⇔  U + n ≤ ρ · I  and  I ≥ warm-up      (learning never outruns the data)
    an insert is allowed    ⇔  I − U / ρ ≤ δ  or  I < warm-up        (data never outrun learning by more)

An insert is a whole round, so I may pass the bound by one round for every worker that was let in.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplesPerInsertLimiter:
    """The limiter at given counters; it has no other state.

    Args:
        updates_per_env_step: ρ ≥ 0; with 0 nothing is learnt and inserts are always allowed.
        tolerance_env_steps: δ ≥ 1/ρ, or neither side could move.
        warmup_env_steps: inserted before the first update.
        env_steps: I.
        update_steps: U.
    """

    updates_per_env_step: float
    tolerance_env_steps: int
    warmup_env_steps: int
    env_steps: int
    update_steps: int

    def allowed_updates(self) -> int:
        """The largest n that may be made now."""
        if self.env_steps < self.warmup_env_steps:
            return 0
        # The product of a decimal ρ and an integer can fall a rounding error short of a whole number.
        budget = math.floor(self.updates_per_env_step * self.env_steps + 1e-9)
        return max(0, budget - self.update_steps)

    def can_insert(self) -> bool:
        """Whether another round may be started now."""
        rate = self.updates_per_env_step
        if rate == 0.0 or self.env_steps < self.warmup_env_steps or self.allowed_updates() == 0:
            return True
        return self.env_steps - self.update_steps / rate <= self.tolerance_env_steps
