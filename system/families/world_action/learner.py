"""JOWA: joint training of a world model and a value function on one backbone.

With hidden outputs of the world-action model, r = sign of the reward, all sums divided by B·T:

    world    CE of next frame tokens (divided by B·(T·K − 1)) + CE(r) + CE(end)
    TD       −Σ_z (T Z⁻)(s_t, a_t)_z · log Z(s_t, a_t)_z           over steps with a target
    CQL      log Σ_a exp Q(s_t, a) − Q(s_t, a_t)                   over the same steps

The first `world_action.training.world_share` of the offline updates minimise the world losses alone, all others
β·world + TD + α·CQL; `training.clone_weight` adds the cross-entropy of the data's actions to both. Where
`training.imagined_share` asks for it (few-shot adaptation), from `training.imagined_start` on that share of the
windows
ends in imagined steps (`imagined_windows`): world losses are of the recorded windows, TD of all,
and

    COMBO    f · (E_{ŝ,â planned} Q(ŝ, â) − E_{s,a data} Q(s, a))  takes the place of CQL; f: planned share of B·T

The baselines share data, backbone and budget: `conservative_q` is TD + α·CQL from the
first update on; `clone` is the cross-entropy of the data's actions.

Deviations from the paper and its public code, with the reason:

- gradients are averaged over learners; the public trainer steps past its all-reduce and trains replicas apart;
- dropout is off in evaluation, in imagination and in everything that targets are computed from; the public Q
  heads keep it on for ever;
- log Σ exp of CQL runs over the game's valid actions; the public code pushes down buttons that nobody can press;
- the best next action is chosen by the online head and valued by the target head (double Q-learning); the
  target alone does both in the paper, and overestimates;
- CQL applies where there is a TD target; at a window's last step, which only terminal ones have, nothing would
  hold its push in place;
- divisors count padding, so that learners' averages are exact; the weight of a short window falls with it;
- values begin at a return of 0, not in the middle of the support; a bias fades by γ per target copy only;
- a share of each target may be what the episode really received from there on (`training.return_share`; 0 is the
  paper's): bootstrapping alone needs far more updates before values tell good states from bad ones;
- the data's actions may be imitated beside all that (`training.clone_weight`), and actions unlikely in the
  data left out, of targets as of plans (`planner.support_threshold`, as in discrete BCQ): with little data CQL
  alone holds values of what nobody does in check too slowly;
- returns of `training.bootstrap_steps` > 1 steps are offered, because targets that are copied rarely carry a
  reward back by so many steps per copy; 1 is the paper's;
- the learning rate may fall along a cosine (`training.final_learning_rate_fraction`; 1 is the paper's), and
  the backbone's matrices may be trained by Muon (`world_action.training.optimizer`; AdamW is the paper's);
- a position's vector is the sum of one of its step and one of its place within the step; the paper learns one for
  each of the 296 positions;
- whether a token stays as it was in the frame before is predicted by a gate (`next_token`);
- the tokenizer is trained first and frozen, so that every frame is encoded once and tokens never change their
  meaning under the world model;
- predicted ends cut imagined returns (`system.planning.beam_search`); the public planner ignores them;
- pretraining uses no synthetic data by default, which made every figure of the paper's ablation worse;
- COMBO pushes down Q of the planned pairs themselves, as eq. 4 has it; the public code pushes down log Σ exp over
  all actions, in recorded states too. Its means count by the share of the batch that is planned: at α = 0.1 plain
  means drove the values of the data's actions from 3 to 14 within 240 updates of few-shot adaptation
  (`system.families.world_action.losses.imagined_excess` says why).

Source: JOWA sections 4.1 and 4.3, eqs. 4 and 8–10; facts of its public code as read.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from system.config import RunConfig
from system.families.agent_learner import AgentLearner
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.config import WorldActionTrainingConfig
from system.families.world_action.imagined_windows import rows_to_imagine, with_imagined_ends
from system.families.world_action.losses import (
    ImaginedEnds,
    Losses,
    TokenWindows,
    backups,
    clone_loss,
    value_losses,
    world_losses,
)
from system.families.world_action.model import without_dropout
from system.models.graphed_step import Tensors
from system.models.optimizer_state import (
    decayed_groups,
    rate_factor,
    set_learning_rate,
    step_if_finite,
    step_where_finite,
)
from system.seeding import derive_seed
from system.types import SegmentBatch, TransitionBatch


def learning_rate_at(config: WorldActionTrainingConfig, stage: str, step: int, total_steps: int) -> float:
    """Offline: linear warm-up, then a cosine over `total_steps` updates; online: a constant of its own."""
    if stage == "online":
        return config.online_learning_rate
    return config.learning_rate * rate_factor(
        step,
        warmup_steps=config.warmup_steps,
        total_steps=total_steps,
        final_fraction=config.final_learning_rate_fraction,
    )


class WorldActionLearner(AgentLearner[WorldActionAgent]):
    """`update` is one gradient step; the agent's tokenizer is left as it is."""

    def __init__(self, agent: WorldActionAgent, config: RunConfig, **group: Any) -> None:
        super().__init__(agent, config, **group)
        training = config.method.training
        # Muon has no step that a gradient which is not finite leaves undone by itself.
        self.graphed = self.graphed and training.optimizer == "adamw"
        self._make_optimizers(training)
        self.world_steps = round(training.world_share * config.pretrain.update_steps)
        self.data_steps = max(self.world_steps, round(training.imagined_start * config.pretrain.update_steps))
        self._steps = {
            world_alone: self.repeated(partial(self._learn, world_alone)) for world_alone in (False, True)
        }

    def update(
        self, segments: SegmentBatch, transitions: list[TransitionBatch], *, stage: str, step: int
    ) -> dict[str, torch.Tensor]:
        """One gradient step.

        Args:
            segments: this learner's share of the batch.
            transitions: not used by this family.
            stage: `offline` or `online`.
            step: update step within the stage: decides on losses, learning rate and copies of the target.

        Returns:
            Scalars by name, without gradient.
        """
        windows, imagined = TokenWindows.of(segments, self.device), None
        if self._imagines(stage, step):
            windows, imagined = self._imagine(windows)
        self._move_target(stage, step)
        training = self.config.method.training
        rate = learning_rate_at(training, stage, step, self.config.pretrain.update_steps)
        for optimizer in self.optimizers.values():
            factor = training.muon_rate_factor if isinstance(optimizer, torch.optim.Muon) else 1.0
            set_learning_rate(optimizer, factor * rate)
        world_alone = self._learns_world_alone(stage, step)
        with self._dropout_stream(stage, step):
            if imagined is None:
                return self._steps[world_alone](vars(windows))
            return self._learn(world_alone, vars(windows), imagined)

    def _make_optimizers(self, training: WorldActionTrainingConfig) -> None:
        """Muon is for the matrices of the backbone's blocks; embeddings, norms and heads stay with AdamW.

        Its steps are scaled to the size of AdamW's: its rate is a multiple of theirs, `training.muon_rate_factor`.
        """
        model, rate = self.agent.model, training.learning_rate
        matrices: list[nn.Parameter] = []
        if training.optimizer == "muon":
            matrices = [each for each in model.backbone.parameters() if each.ndim == 2]
        groups = decayed_groups(model, training.weight_decay, without=matrices)
        self.make_optimizer("world_action_optimizer", torch.optim.AdamW, groups, rate)
        if matrices:
            self.optimizers["backbone_optimizer"] = torch.optim.Muon(
                matrices, lr=rate, weight_decay=training.weight_decay, adjust_lr_fn="match_rms_adamw"
            )

    def _learn(self, world_alone: bool, windows: Tensors, imagined: ImaginedEnds | None = None) -> Tensors:
        with self.autocast:
            loss, metrics = self._loss(TokenWindows(**windows), world_alone, imagined)
        self.agent.model.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.agent.model.parameters())
        self.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.method.training.gradient_clip)
        for optimizer in self.optimizers.values():
            advance = step_if_finite if isinstance(optimizer, torch.optim.Muon) else step_where_finite
            advance(optimizer, norm)
        return {**{name: value.detach() for name, value in metrics.items()}, "jowa/gradient_norm": norm}

    def _loss(
        self, windows: TokenWindows, world_alone: bool, imagined: ImaginedEnds | None = None
    ) -> tuple[torch.Tensor, Losses]:
        training, model = self.config.method.training, self.agent.model
        terms, metrics = [], {}
        if training.objective == "jowa":
            hidden = model(windows.tokens, windows.actions, windows.game)
            features = hidden[:, :, model.tokens_per_frame - 1]
            world = world_losses(model, *_recorded(hidden, windows, imagined))
            metrics.update({f"world/{name}_loss": value for name, value in world.items()})
            weight = 1.0 if world_alone else training.world_weight
            terms.append(weight * (world["token"] + world["reward"] + world["end"]))
        else:
            features = model.frame_features(windows.tokens, windows.actions, windows.game)
        if training.imitates:
            imitation = clone_loss(self.agent, *_recorded(features, windows, imagined))
            metrics["clone/loss"] = imitation
            if training.objective == "clone":
                return imitation, metrics
            terms.append(training.clone_weight * imitation)
        if not world_alone:
            plan = backups(windows, self.config.discount, training.bootstrap_steps)
            target_features = self._target_features(features, windows)
            value = value_losses(
                self.agent,
                features,
                target_features,
                windows,
                plan,
                imagined,
                return_share=training.return_share,
                support_threshold=self.config.planner.support_threshold,
            )
            metrics.update(
                {
                    "value/td_loss": value["td"],
                    "value/conservative_loss": value["conservative"],
                    "value/q_mean": value["q_mean"],
                }
            )
            terms += [value["td"], training.conservative_weight * value["conservative"]]
        return torch.stack(terms).sum(), metrics

    def _imagine(self, windows: TokenWindows) -> tuple[TokenWindows, ImaginedEnds]:
        """The windows, the configured share of them with an imagined end."""
        training = self.config.method.training
        return with_imagined_ends(
            self.agent,
            windows,
            rows_to_imagine(windows.game, training.imagined_share),
            num_steps=training.imagined_steps,
            planner=self.config.planner,
            discount=self.config.discount,
        )

    @torch.no_grad()
    def _target_features(
        self, features: Float[torch.Tensor, "B T D"], windows: TokenWindows
    ) -> Float[torch.Tensor, "B T D"]:
        """The features without dropout; where there is none, those at hand."""
        if not self.config.method.model.drops_out:
            return features.detach()
        with without_dropout(self.agent.model):
            return self.agent.model.frame_features(windows.tokens, windows.actions, windows.game)

    def _learns_world_alone(self, stage: str, step: int) -> bool:
        return self.config.method.training.objective == "jowa" and stage == "offline" and step < self.world_steps

    def _imagines(self, stage: str, step: int) -> bool:
        return stage == "offline" and self.config.method.training.imagined_share > 0.0 and step >= self.data_steps

    def _move_target(self, stage: str, step: int) -> None:
        """A hard copy of the Q head every `target_update_steps` updates that use it."""
        if stage == "offline" and self.config.method.training.objective == "jowa":
            step -= self.world_steps
        if step >= 0 and step % self.config.method.training.target_update_steps == 0:
            self.agent.target_head.load_state_dict(self.agent.model.q_head.state_dict())

    def _dropout_stream(self, stage: str, step: int) -> AbstractContextManager[None]:
        """Dropout from a stream of this update's and shard's own, leaving the global generator as it is."""
        if not self.config.method.model.drops_out:
            return nullcontext()
        return _seeded(derive_seed(self.config.seed, "dropout", stage, step, self.shard[0]), self.device)


def _recorded(
    hidden: Float[torch.Tensor, "B T *outputs D"], windows: TokenWindows, imagined: ImaginedEnds | None
) -> tuple[Float[torch.Tensor, "R T *outputs D"], TokenWindows]:
    """Outputs and windows without those with an imagined end: the model is not to learn from itself."""
    if imagined is None:
        return hidden, windows
    return hidden[~imagined.windows], windows.select(~imagined.windows)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators at `seed` within, and as they were behind."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
