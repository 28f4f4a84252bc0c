"""A planning model whose passes run in the precision that is asked for, and on a GPU as recorded graphs.

Planners see the same model. A decision's two passes are hundreds of short kernels, which one by one take longer to
launch than to run.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Shaped

from system.decisions import Context
from system.models.graphed_step import EagerStep, Tensors, records_decisions, repeated_step
from system.models.optimizer_state import mixed_precision
from system.models.protocols import Imagination, PlanningModel


class AcceleratedModel:
    """Asks another planning model.

    Args:
        model: whose passes wait for nothing that the device computes where actions are vectors; numbers of actions
            are drawn with a look at their probabilities, and are not recorded.
        device: of the model.
        precision: `float32` or `bfloat16`, of matrix products.
        graphed: whether passes are recorded and replayed; the device is a GPU then.

    Attributes:
        discount: of the model's values.
    """

    def __init__(self, model: PlanningModel, device: torch.device, precision: str, *, graphed: bool) -> None:
        self.model = model
        self.discount = model.discount
        self.autocast = mixed_precision(precision, device)
        self.graphed = graphed
        # Recordings draw from a generator of their own, which takes over the state of the caller's.
        self._generator = torch.Generator(device)
        self._proposing: dict[tuple[int, int], EagerStep] = {}
        self._imagining = repeated_step(self._imagine, device, graphed=graphed)
        self._device = device

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """As the model does; the generator is left where it would be."""
        if not self.graphed or not context.actions.is_floating_point():
            with self.autocast:
                return self.model.propose(
                    context, horizon=horizon, num_candidates=num_candidates, generator=generator
                )
        self._generator.set_state(generator.get_state())
        candidates = self._step_for(horizon, num_candidates)(context_tensors(context))["candidates"]
        generator.set_state(self._generator.get_state())
        return candidates

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """As the model does."""
        return Imagination(**self._imagining({**context_tensors(context), "candidates": actions}))

    def _step_for(self, horizon: int, num_candidates: int) -> EagerStep:
        asked = horizon, num_candidates
        if asked not in self._proposing:
            work = partial(self._propose, horizon, num_candidates)
            self._proposing[asked] = repeated_step(
                work, self._device, graphed=self.graphed, generators=[self._generator]
            )
        return self._proposing[asked]

    def _propose(self, horizon: int, num_candidates: int, context: dict[str, Any]) -> Tensors:
        with self.autocast:
            candidates = self.model.propose(
                Context(**context), horizon=horizon, num_candidates=num_candidates, generator=self._generator
            )
        return {"candidates": candidates}

    def _imagine(self, inputs: Tensors) -> Tensors:
        context: dict[str, Any] = {name: value for name, value in inputs.items() if name != "candidates"}
        with self.autocast:
            return dict(vars(self.model.imagine(Context(**context), inputs["candidates"])))


def context_tensors(context: Context) -> dict[str, Any]:
    """What planners read that are given nothing to go on from, and no goal."""
    return {name: value for name, value in vars(context).items() if isinstance(value, torch.Tensor)}


def accelerated(model: PlanningModel, device: torch.device, precision: str) -> AcceleratedModel:
    """The model as it is fastest on a device; where algorithms are to be deterministic nothing is recorded.

    Args:
        model, device, precision: as of `AcceleratedModel`.
    """
    return AcceleratedModel(model, device, precision, graphed=records_decisions(device))
