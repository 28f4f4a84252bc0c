"""IPD's learner: world model and values first, then the policy that is distilled of what was imagined.

Of pretraining's update steps the first `training.foundation_share` train

    world model   one step on the first batch of transitions                      eqs. 13–16
    values        one step on each batch: Huber-expectile V, Q, actor             eqs. 1–5

and the others, once the dataset has been imagined from, the distilled policy

    (a_t − π(past, asked_t, s_t))² − α Q(s_t, π(past, asked_t, s_t))              eq. 26

over the imagined steps of windows that end with some, as algorithm 1 returns them, and over all steps of recorded
windows where nothing was imagined or `training.imagined_share` leaves some. Online updates train all of it.

Deviations from the paper, with the reason:

- Q is the smallest target critic's in standard deviations of the returns, so that α means the same for every task;
- AdamW with a cosine, and no dropout.

Source: Imaginary Planning Distillation, sections 3.1, 3.2 and 3.4.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from system.config import RunConfig
from system.families.agent_learner import AgentLearner
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.config import foundation_steps
from system.families.imagination.imagined_windows import ImaginedWindows
from system.models.graphed_step import Tensors
from system.models.optimizer_state import decayed_groups, rate_factor, set_learning_rate, step_where_finite
from system.models.probabilistic_ensemble import regulariser_scale, world_losses
from system.seeding import numpy_generator, torch_generator
from system.types import SegmentBatch, TransitionBatch
from system.values.huber_expectile import HuberExpectileIQL
from system.values.transitions import transition_tensors


def distillation_losses(
    agent: ImaginationAgent,
    observations: Float[torch.Tensor, "B T S"],
    actions: Float[torch.Tensor, "B T A"],
    asked: Float[torch.Tensor, "B T"],
    valid: Bool[torch.Tensor, "B T"],
    counted: Bool[torch.Tensor, "B T"],
) -> dict[str, torch.Tensor]:
    """Both terms of eq. 26, averaged over B·T: what isn't counted is in the divisor, so shards average exactly.

    Returns:
        `imitation`, squared errors averaged over action dimensions, and `q`, of the policy's actions in standard
        deviations of the returns.
    """
    decided = agent.model(observations, actions, asked, valid)
    weight = counted.to(decided.dtype)
    error = (decided - actions).square().mean(-1)
    q = agent.values.standardized_q(observations.flatten(0, 1), decided.float().flatten(0, 1), target=True).amin(0)
    return {"imitation": (error * weight).mean(), "q": (q.view_as(weight) * weight).mean()}


class ImaginationLearner(AgentLearner[ImaginationAgent]):
    """Owns the imagined windows besides."""

    def __init__(self, agent: ImaginationAgent, config: RunConfig, **group: Any) -> None:
        super().__init__(agent, config, **group)
        method = config.method
        self.critics = HuberExpectileIQL(
            agent.values,
            method.critic,
            config.discount,
            self.average_gradients,
            quantile=method.training.huber_quantile,
            graphed=self.graphed,
        )
        self.parts.append(self.critics)
        groups, rate = decayed_groups(agent.model, method.training.weight_decay), method.training.learning_rate
        self.optimizer = self.make_optimizer("policy_optimizer", torch.optim.AdamW, groups, rate)
        world, rate = agent.world.parameters(), method.world.learning_rate
        self.world_optimizer = self.make_optimizer(
            "world_optimizer", torch.optim.Adam, world, rate, is_scheduled=False
        )
        self.imagined = ImaginedWindows.none(
            config.context_length, agent.task.observation_dim, agent.task.action_dim
        )
        self.foundation_steps = foundation_steps(config)
        self._world_step = self.repeated(self._update_world)
        self._policy_step = self.repeated(self._update_policy)

    def update(
        self, segments: SegmentBatch, transitions: list[TransitionBatch], *, stage: str, step: int
    ) -> dict[str, torch.Tensor]:
        """One step of what is learnt at this time.

        Args:
            segments: this learner's share of the batch, of recorded windows.
            transitions: one batch per update of the values.
            stage: `offline` or `online`.
            step: update step within the stage: decides on what is learnt and on rates; seeds draws.

        Returns:
            Scalars by name, without gradient.
        """
        metrics: dict[str, torch.Tensor] = {}
        if stage == "online" or step < self.foundation_steps:
            for batch in transitions:
                metrics.update(self.critics.update(batch))
            metrics.update(self._world_step(self._world_inputs(transitions[0], stage, step)))
        if stage == "online" or step >= self.foundation_steps:
            set_learning_rate(self.optimizer, self._learning_rate(stage, step))
            metrics.update(self._policy_step(self._policy_inputs(segments, stage, step)))
        return metrics

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, moments, and what was imagined."""
        return super().state() | {name: value.clone() for name, value in self.imagined.state().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        super().load_state(state)
        imagined = ImaginedWindows.of_state(state)
        self.imagined = ImaginedWindows(*(value.clone().cpu() for value in imagined.state().values()))

    def _learning_rate(self, stage: str, step: int) -> float:
        training = self.config.method.training
        if stage == "online":
            return float(training.online_learning_rate)
        return float(training.learning_rate) * rate_factor(
            step - self.foundation_steps,
            warmup_steps=training.warmup_steps,
            total_steps=self.config.pretrain.update_steps - self.foundation_steps,
            final_fraction=training.final_learning_rate_fraction,
        )

    def _world_inputs(self, batch: TransitionBatch, stage: str, step: int) -> Tensors:
        """The batch, this shard's rows of the whole batch's noise, and γ_k."""
        world, rows = self.config.method.world, len(batch.rewards) * self.shard[1]
        generator = torch_generator(self.config.seed, "world noise", stage, step)
        noise = torch.randn(rows, batch.observations.shape[1], generator=generator)
        scale = regulariser_scale(
            step + (self.foundation_steps if stage == "online" else 0),
            initial=world.regulariser_scale,
            decay_steps=world.regulariser_decay_steps,
        )
        return {
            **transition_tensors(batch),
            "noise": self.own_rows(noise),
            "scale": torch.tensor(scale),
        }

    def _update_world(self, inputs: Tensors) -> Tensors:
        agent, world = self.agent, self.config.method.world
        losses = world_losses(
            agent.world,
            **inputs,
            regularised_log_variance=world.regularised_log_variance,
            objective=world.objective,
        )
        transition = world.transition_weight * (losses["transition"] + losses["covariance"])
        loss = transition + world.outcome_weight * (losses["reward"] + losses["end"])
        self.world_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(agent.world.parameters())
        self.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.method.training.gradient_clip)
        step_where_finite(self.world_optimizer, norm)
        return {
            **{f"world/{name}_loss": value.detach() for name, value in losses.items()},
            "world/gradient_norm": norm,
        }

    def _policy_inputs(self, segments: SegmentBatch, stage: str, step: int) -> Tensors:
        """Recorded windows, the share of them that is due replaced by imagined ones."""
        inputs = {
            "observations": torch.tensor(segments.observations),
            "actions": torch.tensor(segments.actions),
            "returns": torch.tensor(segments.returns_to_go),
            "valid": torch.tensor(segments.valid),
            "counted": torch.tensor(segments.valid),
        }
        if self.config.method.training.asked == "return":
            inputs["counted"] &= torch.tensor(segments.returns_valid)
        if len(self.imagined):
            rows, drawn = self._rows_to_replace(len(segments.valid), stage, step)
            for name, values in inputs.items():
                values[rows] = getattr(self.imagined, name)[drawn]
        return inputs

    def _rows_to_replace(self, own: int, stage: str, step: int) -> tuple[np.ndarray, np.ndarray]:
        """This shard's rows that are to be imagined, evenly spread over the whole batch, and the windows drawn."""
        rank, number = self.shard
        share, everyone = self.config.method.training.imagined_share, np.arange(own * number)
        generator = numpy_generator(self.config.seed, "imagined", stage, step)
        drawn = generator.integers(len(self.imagined), size=own * number)
        is_imagined = np.floor((everyone + 1) * share + 1e-9) > np.floor(everyone * share + 1e-9)
        mine = slice(rank * own, (rank + 1) * own)
        rows = np.flatnonzero(is_imagined[mine])
        return rows, drawn[mine][rows]

    def _update_policy(self, inputs: Tensors) -> Tensors:
        agent, training = self.agent, self.config.method.training
        asked = inputs["returns"]
        if training.asked == "value":
            with torch.no_grad():
                asked = agent.value(inputs["observations"])
        with self.autocast:
            losses = distillation_losses(
                agent, inputs["observations"], inputs["actions"], asked, inputs["valid"], inputs["counted"]
            )
        self.optimizer.zero_grad(set_to_none=True)
        (losses["imitation"] - training.q_weight * losses["q"]).backward()
        parameters = list(agent.model.parameters())
        self.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
        step_where_finite(self.optimizer, norm)
        return {
            **{f"policy/{name}": value.detach() for name, value in losses.items()},
            "policy/gradient_norm": norm,
        }
