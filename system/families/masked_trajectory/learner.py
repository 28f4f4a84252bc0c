"""M³PC: the masked trajectory model's training, and the critics' beside it.

One update step is one gradient step of the trajectory model and `critic.updates_per_step` of IQL. The
trajectory model minimises, with one mask for the whole batch,

    MSE(states) + MSE(returns) + MSE(rewards)          over all tokens, standardised
    + MSE(tanh μ, a) over visible actions − log π(a)    over hidden ones
    − α H[π]                                            over hidden ones, H summed over action dimensions

while the dual variable α ≥ 0 rises where the entropy is under its bound: α (H − bound).

Discrete actions are one-hot tokens with a categorical head: log π is a cross-entropy, over visible actions too in
place of the squared error; H is exact, and its bound `training.target_entropy_share` of log A, in place of
`masked_trajectory.training.target_entropy_per_dim` times A.

Deviations from the paper and its public code, with the reason:

- returns-to-go are discounted sums that include r_t, the quantity that eq. 3 adds up;
- entropy is summed over action dimensions and its bound is per trajectory step, as eq. 2 says;
- states are predicted as a change from the latest visible one, which makes dynamics far easier to learn;
- a share of steps (`training.mask_shares`) uses the exact masks that planning uses, which random masks practically
  never equal;
- α, optimiser moments and statistics are part of the state, so that fine-tuning goes on where it stopped;
- all heads are trained in the online stage, where actions may count by their advantage as in the reference actor's
  loss (`training.online_advantage_temperature`);
- what acts is a running average of the trajectory model's weights (`training.weight_average`): the model that
  the last few updates happen to leave behind plays far better or worse than the one before it.

Source: M³PC section IV, eqs. 1–2.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import nn

from system.config import RunConfig
from system.families.agent_learner import AgentLearner, RunningAverage
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import TrajectoryTrainingConfig
from system.families.masked_trajectory.mask_layout import MaskLayout, lay_out, layout_of
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    REWARDS,
    STATES,
    Mask,
    draw_known_dimensions,
    infers_a_path,
    sample_training_mask,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.families.masked_trajectory.windows import segment_tensors
from system.models.graphed_step import Tensors
from system.models.optimizer_state import (
    decayed_groups,
    keep_gradients,
    rate_factor,
    set_learning_rate,
    step_where_finite,
)
from system.seeding import numpy_generator, torch_generator
from system.types import SegmentBatch, TransitionBatch
from system.values.iql import IQL

LARGEST_ACTION_WEIGHT = 10.0


def learning_rate_at(peak: float, config: TrajectoryTrainingConfig, step: int, total_steps: int) -> float:
    """Linear warm-up, then a cosine to `final_learning_rate_fraction` of the peak.

    Args:
        peak: of the stage.
        config: warm-up and end.
        step: update step of the stage, from 0.
        total_steps: length of that stage.
    """
    return peak * rate_factor(
        step,
        warmup_steps=config.warmup_steps,
        total_steps=total_steps,
        final_fraction=config.final_learning_rate_fraction,
    )


def tokens_of(inputs: Tensors) -> Tokens:
    """The windows among an update's inputs."""
    return Tokens(**{field.name: inputs[field.name] for field in fields(Tokens) if field.name in inputs})


def trajectory_losses(
    model: MaskedTrajectoryModel,
    tokens: Tokens,
    returns_valid: torch.Tensor,
    mask: Mask | MaskLayout,
    noise: torch.Tensor,
    target_entropy: float,
    action_weights: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Every term of the loss, averaged over B·T (padding counts in the divisor, so that shards average exactly).

    Args:
        model: the trajectory model.
        tokens: B windows of T steps.
        returns_valid: [B, T] whose return-to-go is known.
        mask: visible tokens.
        noise: [B, T, as many as the form of the actions asks for] standard normal, for the entropy estimate.
        target_entropy: bound on the entropy of one step's action.
        action_weights: [B, T] of the likelihood of each hidden action; None for ones.

    Returns:
        `states`, `returns`, `rewards` (standardised squared errors), `visible_actions` (squared errors, or
        cross-entropies of discrete ones), `nll`, and
        `entropy_excess` = mean of H − bound over hidden actions.
    """
    layout = layout_of(mask, tokens.valid.device)
    decoded = model(tokens, layout)
    valid = tokens.valid.float()
    with_actions, with_rewards = _recorded(tokens.actions_known, valid), _recorded(tokens.rewards_known, valid)
    states = model.predict_states(decoded[:, STATES], tokens, layout, 0)
    state_error = ((states - tokens.states) / model.observation_std).square().mean(-1)
    return_error = (model.predict_scalar(decoded[:, RETURNS], RETURNS) - tokens.returns) / model.return_scale[1]
    reward_error = (model.predict_scalar(decoded[:, REWARDS], REWARDS) - tokens.rewards) / model.reward_scale[1]
    policy = model.predict_actions(decoded[:, ACTIONS])
    is_hidden = ~layout.seen[ACTIONS]
    hidden = is_hidden * with_actions
    visible = with_actions - hidden
    hidden_total = valid.shape[0] * is_hidden.sum().clamp_min(1)
    counted = hidden if action_weights is None else hidden * action_weights
    action_error = policy.reconstruction_error(tokens.actions)
    return {
        "states": (state_error * valid).mean(),
        "returns": (return_error.square() * returns_valid).mean(),
        "rewards": (reward_error.square() * with_rewards).mean(),
        "visible_actions": (action_error * visible).mean(),
        "nll": -(policy.log_prob(tokens.actions) * counted).sum() / hidden_total,
        "entropy_excess": ((policy.entropy(noise) - target_entropy) * hidden).sum() / hidden_total,
    }


def _recorded(known: torch.Tensor | None, valid: torch.Tensor) -> torch.Tensor:
    """[B, T] 1 where something belongs to the episode and was recorded."""
    return valid if known is None else valid * known


class M3PCLearner(AgentLearner[TrajectoryAgent]):
    """`update` is one joint step of trajectory model and critics."""

    def __init__(self, agent: TrajectoryAgent, config: RunConfig, **group: Any) -> None:
        super().__init__(agent, config, **group)
        training, critic = config.method.training, config.method.critic
        self.optimizer = self.make_optimizer(
            "trajectory_optimizer",
            torch.optim.AdamW,
            decayed_groups(agent.model, training.weight_decay),
            training.learning_rate,
            betas=(0.9, training.beta2),
        )
        self.log_alpha = nn.Parameter(torch.tensor(math.log(0.1), device=self.device))
        dual, rate = [self.log_alpha], training.entropy_learning_rate
        self.alpha_optimizer = self.make_optimizer(
            "alpha_optimizer", torch.optim.Adam, dual, rate, is_scheduled=False
        )
        self.critics = IQL(agent.values, critic, config.discount, self.average_gradients, graphed=self.graphed)
        self.parts.append(self.critics)
        self.average = RunningAverage(agent.model, "model")
        self.averages.append(self.average)
        self.target_entropy = agent.model.actions.entropy_bound(
            training.target_entropy_per_dim, training.target_entropy_share
        )
        self._step = self._online_step = self.repeated(self._update_trajectory_model)
        if training.online_advantage_temperature:
            self._online_step = self.repeated(self._update_by_advantage)
        # What several learners average has to be averaged in one order; kernels of one GPU have one queue.
        is_alone = self.average_gradients is keep_gradients
        apart = critic.beside and is_alone and self.device.type == "cpu"
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="critics") if apart else None

    def update(
        self, segments: SegmentBatch, transitions: list[TransitionBatch], *, stage: str, step: int
    ) -> dict[str, torch.Tensor]:
        """One step of the trajectory model and one of IQL per transition batch.

        Args:
            segments: this learner's share of the batch.
            transitions: one batch per critic update.
            stage: `offline` or `online`, each with a learning rate that warms up and decays.
            step: update step within the stage; seeds the mask and the entropy noise.

        Returns:
            Scalars by name, without gradient.
        """
        self._set_learning_rate(stage, step)
        model_step = self._step if stage == "offline" else self._online_step
        inputs = self._inputs(segments, stage, step)
        if self._beside is None or model_step != self._step:  # advantages are those of critics that stand still
            return {**model_step(inputs), **self._update_critics(transitions)}
        critics = self._beside.submit(self._update_critics, transitions)
        try:
            metrics = model_step(inputs)
        finally:
            found = critics.result()
        return {**metrics, **found}

    def _update_critics(self, transitions: list[TransitionBatch]) -> dict[str, torch.Tensor]:
        """They share nothing with the trajectory model. The last update's metrics; none without a batch."""
        metrics: dict[str, torch.Tensor] = {}
        for batch in transitions:
            metrics = self.critics.update(batch)
        return metrics

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, moments and dual variable."""
        return super().state() | {"log_alpha": self.log_alpha.detach().clone()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        super().load_state(state)
        self.log_alpha.copy_(state["log_alpha"])

    def _inputs(self, segments: SegmentBatch, stage: str, step: int) -> Tensors:
        """All that one update depends on beside the weights, on the host."""
        length = segments.valid.shape[1]
        training = self.config.method.training
        mask = sample_training_mask(
            length,
            training.mask_shares,
            numpy_generator(self.config.seed, "mask", stage, step),
            keep_ratios=training.keep_ratios,
            planning_step=length - max(1, self.config.planner.horizon),
            planning_step_share=training.planning_step_share,
        )
        layout = lay_out(mask, multiple=length if self.device.type == "cuda" else 1)
        return {
            **segment_tensors(segments, incomplete=self.config.dataset.incomplete == "keep"),
            "visible": layout.visible,
            "seen": layout.seen,
            "noise": self._noise(segments, stage, step),
            **self._known_dimensions(segments, mask, stage, step),
            "average_share": torch.tensor(1.0 - self._average_decay(stage, step)),
        }

    def _update_by_advantage(self, inputs: Tensors) -> Tensors:
        """Actions count as in the reference actor's loss, by what the critics think of them."""
        beta = self.config.method.training.online_advantage_temperature
        with torch.no_grad():
            observations, actions = inputs["states"].flatten(0, 1), inputs["actions"].flatten(0, 1)
            values = self.agent.values
            advantage = values.standardized_q(observations, actions, target=True).amin(0)
            advantage = advantage - values.standardized_v(observations)
            weights = torch.exp(beta * advantage).clamp(max=LARGEST_ACTION_WEIGHT)
        return self._update_trajectory_model(inputs, weights.view(inputs["valid"].shape))

    def _update_trajectory_model(self, inputs: Tensors, action_weights: torch.Tensor | None = None) -> Tensors:
        layout = MaskLayout(inputs["visible"], inputs["seen"])
        if self.config.compile:
            torch._dynamo.maybe_mark_dynamic(layout.visible, 0)
        with self.autocast:
            losses = trajectory_losses(
                self.agent.model,
                tokens_of(inputs),
                inputs["returns_known"].float(),
                layout,
                inputs["noise"],
                self.target_entropy,
                action_weights,
            )
        alpha = self.log_alpha.exp().detach()
        errors = losses["states"] + losses["returns"] + losses["rewards"]
        loss = errors + losses["visible_actions"] + losses["nll"] - alpha * losses["entropy_excess"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.agent.model.parameters())
        self.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.method.training.gradient_clip)
        is_finite = step_where_finite(self.optimizer, norm)
        self.average.move(inputs["average_share"] * is_finite)
        self._update_alpha(losses["entropy_excess"].detach(), norm)
        metrics = {
            f"trajectory/{name}_loss": value.detach() for name, value in losses.items() if name != "entropy_excess"
        }
        entropy = losses["entropy_excess"].detach() + self.target_entropy
        return {
            **metrics,
            "trajectory/entropy": entropy,
            "trajectory/alpha": alpha,
            "trajectory/gradient_norm": norm,
        }

    def _average_decay(self, stage: str, step: int) -> float:
        """d of average ← d·average + (1 − d)·weights, which rises to its value over the first offline steps."""
        decay: float = self.config.method.training.weight_average
        return min(decay, (step + 1) / (step + 10)) if stage == "offline" else decay

    def _update_alpha(self, entropy_excess: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        """Together with the weights, or not at all."""
        self.alpha_optimizer.zero_grad(set_to_none=True)
        (self.log_alpha.exp() * entropy_excess).backward()
        self.average_gradients([self.log_alpha])
        step_where_finite(self.alpha_optimizer, gradient_norm)

    def _set_learning_rate(self, stage: str, step: int) -> None:
        training, online = self.config.method.training, self.config.online
        if stage == "offline":
            rate = learning_rate_at(training.learning_rate, training, step, self.config.pretrain.update_steps)
        else:
            expected = round(online.env_steps * online.updates_per_env_step)
            rate = learning_rate_at(training.online_learning_rate, training, step, expected)
        set_learning_rate(self.optimizer, rate)

    def _noise(self, segments: SegmentBatch, stage: str, step: int) -> torch.Tensor:
        """This shard's rows of the whole batch's noise, so that sharding does not change the draw."""
        rows, length = segments.actions.shape[:2]
        generator = torch_generator(self.config.seed, "entropy", stage, step)
        whole = rows * self.shard[1], length, self.agent.model.actions.num_noise
        return self.own_rows(torch.randn(whole, generator=generator))

    def _known_dimensions(self, segments: SegmentBatch, mask: Mask, stage: str, step: int) -> Tensors:
        """Where states may be known in part: of the goals in a mask of path inference, this shard's rows of the
        whole batch's draw."""
        if not self.config.method.model.partial_states:
            return {}
        rank, world = self.shard
        rows, length, dimensions = segments.observations.shape
        known = np.ones((rows, length, dimensions), dtype=bool)
        if infers_a_path(mask):
            generator = numpy_generator(self.config.seed, "known dimensions", stage, step)
            drawn = draw_known_dimensions(rows * world, dimensions, generator)
            known[:, -1] = drawn[rank * rows : (rank + 1) * rows]
        return {"states_known": torch.from_numpy(known)}
