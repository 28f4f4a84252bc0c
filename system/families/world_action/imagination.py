"""The world-action model as a planning model: most likely futures, imagined together from a shared memory.

Frames stay tokens: no image is decoded. What was read before the decision is kept once per environment; a branch
copies only what its future added. The frame before it is the draft of an imagined one (`drafted_frames`).

Source: JOWA section 4.2; every transition is the model's most likely one, as there.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int

from system.decisions import TokenContext
from system.families.world_action.drafted_frames import imagine_step
from system.families.world_action.model import WorldActionCache, WorldActionModel, left_aligned


@dataclass(frozen=True)
class ImaginedFrames:
    """M states that the world-action model imagines, or was shown.

    Attributes:
        cache: everything up to the frame's last token, and the frame.
        valid_actions: of the game that is played.
    """

    cache: WorldActionCache
    valid_actions: Bool[torch.Tensor, "M A"]


class WorldActionImagination:
    """A `DiscretePlanningModel` whose rewards are signs, −1, 0 or 1.

    Args:
        model: in evaluation mode; it has positions for `context_length` frames, what is read and what is
            imagined together.
        discount: γ that its values were trained with.
        support_threshold: τ of the actions that are considered (`WorldActionModel.considered_actions`); to the
            planner the others are as good as invalid.
    """

    def __init__(self, model: WorldActionModel, discount: float, support_threshold: float = 0.0) -> None:
        self.model = model
        self.discount = discount
        self.support_threshold = support_threshold

    @torch.no_grad()
    def begin(self, context: TokenContext) -> tuple[ImaginedFrames, Float[torch.Tensor, "B A"]]:
        """Reads the histories, which may be of different lengths, and values the present actions.

        Raises:
            ShapeError: there are more frames than the model has positions for.
        """
        cache = self.model.prefill(
            left_aligned(context.tokens, context.valid),
            left_aligned(context.actions, context.valid),
            context.valid.sum(dim=1),
            context.game,
        )
        carry = ImaginedFrames(cache, context.valid_actions)
        return carry, self._values(carry)

    @torch.no_grad()
    def step(
        self, carry: ImaginedFrames, parents: Int[torch.Tensor, "M"], actions: Int[torch.Tensor, "M"]
    ) -> tuple[ImaginedFrames, Float[torch.Tensor, "M"], Bool[torch.Tensor, "M"], Float[torch.Tensor, "M A"]]:
        """Imagines the most likely reward, end and next frame.

        Raises:
            ShapeError: there is no position left for another frame.
        """
        cache = carry.cache.select(parents, room=self.model.tokens_per_frame + 1)
        imagined = imagine_step(self.model, cache, actions, drafts=cache.frame)
        frames = ImaginedFrames(imagined.cache, carry.valid_actions[parents])
        rewards = (imagined.reward_logits.argmax(dim=-1) - 1).float()
        return frames, rewards, imagined.end_logits.argmax(dim=-1).bool(), self._values(frames)

    def observations(self, carry: ImaginedFrames) -> Int[torch.Tensor, "M K"]:
        """The frames' tokens."""
        return carry.cache.frame

    def _values(self, carry: ImaginedFrames) -> Float[torch.Tensor, "M A"]:
        hidden = carry.cache.hidden
        considered = self.model.considered_actions(hidden, carry.valid_actions, self.support_threshold)
        return self.model.q_values(hidden).masked_fill(~considered, -torch.inf)
