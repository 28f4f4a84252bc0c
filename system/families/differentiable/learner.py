"""Learns a world model beside ReBRAC's policy and critics, from the same transitions.

    world model   error of the sampler + standardised squared error of rewards + cross-entropy of termination
    policy        `system.values.rebrac`

What imagines is a running average of the world model's weights; what acts are the policy's newest.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from system.config import RunConfig
from system.families.differentiable.agent import WorldModelAgent
from system.models.graphed_step import Tensors, records_updates, repeated_step
from system.models.optimizer_state import (
    AverageGradients,
    decayed_groups,
    flatten_optimizer,
    has_fused_steps,
    keep_gradients,
    move_towards,
    rate_factor,
    rates_as_tensors,
    restore_optimizer,
    set_learning_rate,
    step_where_finite,
)
from system.seeding import torch_generator
from system.types import SegmentBatch, TransitionBatch
from system.values.rebrac import ReBRAC

Draw = Callable[..., torch.Tensor]


class WorldModelLearner:
    """Owns an agent and its optimisers; `update` is one joint step.

    Args:
        agent: trained in place.
        config: the run's configuration.
        average_gradients: the learner group's all-reduce; identity for a lone learner.
        shard: (rank, number of learners): which share of a whole batch this learner is given.
    """

    def __init__(
        self,
        agent: WorldModelAgent,
        config: RunConfig,
        *,
        average_gradients: AverageGradients = keep_gradients,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.agent = agent
        self.config = config
        self.average_gradients = average_gradients
        self.shard = shard
        self.device = agent.device
        training = config.method.training
        graphed = records_updates(self.device, average_gradients, deterministic=config.deterministic)
        critic = config.method.critic
        self.critics = ReBRAC(agent.values, critic, config.discount, average_gradients, graphed=graphed)
        self.optimizer = torch.optim.AdamW(
            decayed_groups(agent.model, training.weight_decay),
            lr=training.learning_rate,
            fused=has_fused_steps(self.device),
            capturable=graphed,
        )
        if graphed:
            rates_as_tensors(self.optimizer, self.device)
        self.parameters = list(agent.model.parameters())
        self.average = {name: value.detach().clone() for name, value in agent.model.named_parameters()}
        self._step = repeated_step(self._update_world_model, self.device, graphed=graphed)

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

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and moments: `agent.*` is what acts, `newest.*` what is trained of the world model."""
        return {
            **{f"agent.{name}": value for name, value in self.weights().items()},
            **{f"newest.{name}": value.detach().clone() for name, value in self.agent.model.named_parameters()},
            **flatten_optimizer(self.optimizer, "model_optimizer"),
            **self.critics.state(),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        weights = {name[len("agent.") :]: value for name, value in state.items() if name.startswith("agent.")}
        self.agent.load_state_dict(weights)
        self.average = {name: weights[f"model.{name}"].clone().to(self.device) for name in self.average}
        with torch.no_grad():
            for name, parameter in self.agent.model.named_parameters():
                parameter.copy_(state[f"newest.{name}"])
        restore_optimizer(self.optimizer, "model_optimizer", state)
        self.critics.load_state(state)
        self._step.forget()

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs: the average of the world model's weights, and the newest of all others."""
        newest = {name: value.detach().clone() for name, value in self.agent.state_dict().items()}
        return newest | {f"model.{name}": value.clone() for name, value in self.average.items()}

    def _inputs(self, batch: TransitionBatch, stage: str, step: int) -> Tensors:
        dimension = batch.observations.shape[1]
        decay = self.config.method.training.weight_average
        if stage == "offline":
            decay = min(decay, (step + 1) / (step + 10))
        return {
            "observations": torch.tensor(batch.observations),
            "actions": torch.tensor(batch.actions),
            "rewards": torch.tensor(batch.rewards),
            "next_observations": torch.tensor(batch.next_observations),
            "terminated": torch.tensor(batch.terminated),
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
        newest = dict(self.agent.model.named_parameters())
        move_towards(
            list(self.average.values()),
            [newest[name].detach() for name in self.average],
            inputs["average_share"] * is_finite,
        )
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
        """This shard's rows of what is drawn for the whole batch, so that sharding does not change it."""
        rank, world = self.shard
        rows = len(batch.rewards)
        drawn = draw(rows * world, width, generator=torch_generator(self.config.seed, *purpose))
        return drawn[rank * rows : (rank + 1) * rows]
