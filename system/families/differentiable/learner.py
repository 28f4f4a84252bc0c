"""Learns a world model beside ReBRAC's policy and critics, from the same transitions.

    world model   error of the sampler + standardised squared error of rewards + cross-entropy of termination
    policy        `system.values.rebrac`

What imagines is a running average of the world model's weights; what acts are the policy's newest.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from system.config import RunConfig
from system.families.agent_learner import AgentLearner, RunningAverage
from system.families.differentiable.agent import WorldModelAgent
from system.models.graphed_step import Tensors
from system.models.optimizer_state import decayed_groups, rate_factor, set_learning_rate, step_where_finite
from system.seeding import torch_generator
from system.types import SegmentBatch, TransitionBatch
from system.values.rebrac import ReBRAC
from system.values.transitions import transition_tensors

Draw = Callable[..., torch.Tensor]


class WorldModelLearner(AgentLearner[WorldModelAgent]):
    """`update` is one joint step of world model, policy and critics."""

    def __init__(self, agent: WorldModelAgent, config: RunConfig, **group: Any) -> None:
        super().__init__(agent, config, **group)
        training, critic = config.method.training, config.method.critic
        self.critics = ReBRAC(
            agent.values, critic, config.discount, self.average_gradients, graphed=self.graphed
        )
        self.parts.append(self.critics)
        groups = decayed_groups(agent.model, training.weight_decay)
        self.optimizer = self.make_optimizer(
            "model_optimizer", torch.optim.AdamW, groups, training.learning_rate
        )
        self.parameters = list(agent.model.parameters())
        self.average = RunningAverage(agent.model, "model")
        self.averages.append(self.average)
        self._step = self.repeated(self._update_world_model)

    def update(
        self, segments: SegmentBatch, transitions: list[TransitionBatch], *, stage: str, step: int
    ) -> dict[str, torch.Tensor]:
        """One step of the world model from the first batch, and one of ReBRAC from each.

        Args:
            segments: not looked at.
            transitions: this learner's share of each batch.
            stage: `offline` or `online`.
            step: update step within the stage; seeds what is drawn.

        Returns:
            Scalars by name, without gradient.
        """
        self._set_learning_rate(stage, step)
        metrics = self._step(self._inputs(transitions[0], stage, step))
        for index, batch in enumerate(transitions):
            noise = self._draw(batch, torch.randn, batch.actions.shape[1], "target noise", stage, step, index)
            metrics.update(self.critics.update(batch, noise, step * len(transitions) + index))
        return metrics

    def _inputs(self, batch: TransitionBatch, stage: str, step: int) -> Tensors:
        dimension = batch.observations.shape[1]
        decay = self.config.method.training.weight_average
        if stage == "offline":
            decay = min(decay, (step + 1) / (step + 10))
        return {
            **transition_tensors(batch),
            "noise": self._draw(batch, torch.randn, dimension, "model noise", stage, step),
            "times": self._draw(batch, torch.rand, 3, "model times", stage, step),
            "average_share": torch.tensor(1.0 - decay),
        }

    def _update_world_model(self, inputs: Tensors) -> Tensors:
        losses = self.agent.model.losses(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values(), torch.zeros((), device=self.device)).backward()
        self.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.method.training.gradient_clip)
        is_finite = step_where_finite(self.optimizer, norm)
        self.average.move(inputs["average_share"] * is_finite)
        metrics = {f"model/{name}_loss": value.detach() for name, value in losses.items()}
        return {**metrics, "model/gradient_norm": norm}

    def _set_learning_rate(self, stage: str, step: int) -> None:
        """A cosine offline; online the rate that this ended with."""
        training = self.config.method.training
        final = training.final_learning_rate_fraction
        factor = final
        if stage == "offline":
            total = self.config.pretrain.update_steps
            factor = rate_factor(
                step, warmup_steps=training.warmup_steps, total_steps=total, final_fraction=final
            )
        set_learning_rate(self.optimizer, factor * training.learning_rate)

    def _draw(self, batch: TransitionBatch, draw: Draw, width: int, *purpose: str | int) -> torch.Tensor:
        """This shard's rows of what is drawn for the whole batch."""
        rows = len(batch.rewards) * self.shard[1]
        return self.own_rows(draw(rows, width, generator=torch_generator(self.config.seed, *purpose)))
