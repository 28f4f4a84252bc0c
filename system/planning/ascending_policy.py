"""Acting with a planner that ascends a return, and going on from where it arrived.

On a GPU a decision, the ascent and its gradient with it, is recorded as one graph of kernels; one that is handed
something to go on from is not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig
from system.decisions import Context, Plan
from system.models.graphed_step import Tensors, records_decisions, repeated_step
from system.models.protocols import DifferentiableModel
from system.planning.accelerated_model import context_tensors
from system.planning.acting import Decision
from system.planning.ascended_plan import check_action
from system.planning.history import History


class AscendingPolicy:
    """A policy whose plans hand on to the next decision of their episode what they arrived at.

    Args:
        model: what the planner asks; its weights stay where they are.
        config: how to plan.
        plan: the planner's function.
        device: of the model.
        context_length: steps of the past that it is shown.
    """

    def __init__(
        self,
        model: DifferentiableModel,
        config: PlannerConfig,
        plan: Callable[..., Plan],
        *,
        device: torch.device,
        context_length: int,
    ) -> None:
        self.model = model
        self.config = config
        self.plan = plan
        self.device = device
        self.context_length = context_length
        self.is_recorded = records_decisions(device) and not config.ascent.persistent
        # A recording draws from a generator of its own, which takes over the state of the caller's.
        self._generator = torch.Generator(device)
        self._decide = repeated_step(
            self._tensors_of_plan, device, graphed=self.is_recorded, generators=[self._generator]
        )

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`, and keeps what is handed on with their history."""
        context = history.context(rows, torch.zeros(len(rows), device=self.device), self.context_length)
        if self.is_recorded:
            plan = self._replay(context, generator)
        else:
            plan = self.plan(self.model, context, config=self.config, generator=generator)
        history.keep(rows, plan.carry)
        return Decision.of(plan.action, plan)

    def _replay(self, context: Context, generator: torch.Generator) -> Plan:
        self._generator.set_state(generator.get_state())
        tensors: dict[str, Any] = self._decide(context_tensors(context))
        plan = Plan(**tensors)
        generator.set_state(self._generator.get_state())
        check_action(plan.action)
        return plan

    def _tensors_of_plan(self, inputs: dict[str, Any]) -> Tensors:
        plan = self.plan(self.model, Context(**inputs), config=self.config, generator=self._generator)
        return {name: value for name, value in vars(plan).items() if isinstance(value, torch.Tensor)}
