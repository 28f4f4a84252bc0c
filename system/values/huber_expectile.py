"""Huber-expectile regression: implicit Q-learning whose value is not pulled about by outliers.

    V:      L(u) = |τ − 1(u < 0)| · Huber_δ(u),  u = min_e Q̄_e(s, a) − V(s)       eqs. 1–3
    δ:      the quantile q of |u| in recent batches
    Q, actor: as of `system.values.iql`                                           eqs. 4–5

Deviations from the paper, with the reason:

- its eq. 3 writes Huber_δ without the expectile's weight: V would be a mean over the data's actions, an optimum of
  no kind; the loss of eq. 2 is meant and used;
- δ follows the quantile by stochastic approximation, log δ ← log δ + η (share of |u| above δ − (1 − q)), in place
  of a sort of all errors so far: it forgets, it is a mean over rows, so that learners which share a batch agree on
  it, and it is one number in a checkpoint.

Source: Imaginary Planning Distillation, section 3.1, eqs. 1–5; table 2.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import nn

from system.config import CriticConfig
from system.models.optimizer_state import AverageGradients
from system.values.critics import ValueNetworks
from system.values.iql import IQL

THRESHOLD_RATE = 0.05


def huber_expectile_loss(
    difference: Float[torch.Tensor, "B"], expectile: float, delta: float | Float[torch.Tensor, ""]
) -> Float[torch.Tensor, ""]:
    """Mean of |τ − 1(u < 0)| · Huber_δ(u).

    Args:
        difference: u = target − prediction.
        expectile: τ in (0, 1).
        delta: δ > 0, from where on the loss is linear; infinity leaves ½ |τ − 1(u < 0)| u².

    Source: eqs. 1–2.
    """
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    size = difference.abs()
    quadratic = size.clamp(max=delta)
    return (weight * quadratic * (size - 0.5 * quadratic)).mean()


class HuberExpectileIQL(IQL):
    """Implicit Q-learning with this loss of V.

    Args:
        networks, config, discount, average_gradients, graphed: as of `IQL`.
        quantile: q in (0, 1); 1 leaves every error its square.

    Attributes:
        log_threshold: log δ, in standardised return units; begins at 0.
    """

    def __init__(
        self,
        networks: ValueNetworks,
        config: CriticConfig,
        discount: float,
        average_gradients: AverageGradients,
        *,
        quantile: float,
        graphed: bool = False,
    ) -> None:
        super().__init__(networks, config, discount, average_gradients, graphed=graphed)
        self.quantile = quantile
        self.log_threshold = nn.Parameter(torch.zeros((), device=networks.return_mean.device))
        self.averaged = [*self.parameters, self.log_threshold]

    def state(self) -> dict[str, torch.Tensor]:
        """Moments, and the threshold."""
        return {**super().state(), "critic_log_threshold": self.log_threshold.detach().clone()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        super().load_state(state)
        with torch.no_grad():
            self.log_threshold.copy_(state["critic_log_threshold"])

    def _value_loss(self, difference: Float[torch.Tensor, "B"]) -> Float[torch.Tensor, ""]:
        size = difference.detach().abs()
        delta = self.log_threshold.detach().exp()
        # Not the gradient of anything; as a gradient it is averaged over the learners with the others.
        self.log_threshold.grad = (1.0 - self.quantile) - (size > delta).to(size.dtype).mean()
        return huber_expectile_loss(difference, self.config.expectile, delta)

    def _after_step(self, is_finite: torch.Tensor) -> None:
        assert self.log_threshold.grad is not None
        step = THRESHOLD_RATE * self.log_threshold.grad
        with torch.no_grad():
            self.log_threshold.sub_(torch.where(is_finite, step, torch.zeros_like(step)))
