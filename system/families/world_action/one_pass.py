"""Policies of the world-action family that read the past once and decide, as modules of torch alone."""

from typing import Literal

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import nn

from system.config import PlannerConfig
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.model import left_aligned
from system.types import TaskSpec


class FrameReader(nn.Module):
    """`clone` or `q_greedy`, from the frames themselves.

    Args:
        agent: tokenizer, model, and which actions the game knows.
        game: that is played.
        reads: the imitating output, or the values.
        support_threshold: of the actions that are considered by their value.
    """

    valid_actions: torch.Tensor

    def __init__(
        self, agent: WorldActionAgent, game: int, reads: Literal["clone", "q_greedy"], support_threshold: float
    ) -> None:
        super().__init__()
        self.tokenizer = agent.tokenizer
        self.model = agent.model
        self.game = game
        self.reads = reads
        self.support_threshold = support_threshold if reads == "q_greedy" else 0.0
        self.length = agent.model.context_length if reads == "clone" else agent.model.num_valued_frames
        self.register_buffer("valid_actions", agent.valid_actions[game].clone())

    def forward(
        self,
        observations: UInt8[torch.Tensor, "B T height width"],
        actions: Int64[torch.Tensor, "B T-1"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Int64[torch.Tensor, "B"]:
        """Reads as many of the newest frames as the policy does."""
        start = observations.shape[1] - self.length
        frames, valid = observations[:, start:], valid[:, start:]
        game = torch.full_like(steps, self.game)
        tokens = left_aligned(self._tokens(frames), valid)
        past = left_aligned(actions[:, start:], valid)
        present = torch.zeros_like(past[:, :1]) if past.shape[1] else torch.zeros_like(tokens[:, :, 0])
        features = self.model.frame_features(tokens, torch.cat([past, present], dim=1), game)
        hidden = features[torch.arange(features.shape[0], device=features.device), valid.sum(dim=1) - 1]
        known = self.valid_actions.expand(features.shape[0], -1)
        considered = self.model.considered_actions(hidden, known, self.support_threshold)
        scores = self.model.clone_logits(hidden) if self.reads == "clone" else self.model.q_values(hidden)
        return scores.masked_fill(~considered, -torch.inf).argmax(dim=-1)

    def _tokens(self, frames: UInt8[torch.Tensor, "B T height width"]) -> Int64[torch.Tensor, "B T K"]:
        flat = frames.flatten(0, 1)
        games = torch.full_like(flat[:, 0, 0], self.game, dtype=torch.int64)
        numbers, _ = self.tokenizer.nearest(self.tokenizer.residuals(flat, games).flatten(0, 1))
        return numbers.reshape(frames.shape[0], frames.shape[1], self.tokenizer.num_tokens)


def one_pass(name: str, agent: WorldActionAgent, task: TaskSpec, planner: PlannerConfig) -> nn.Module | None:
    """The policy of this name, if it decides in one pass."""
    if name == "clone":
        return FrameReader(agent, task.game, "clone", 0.0)
    return FrameReader(agent, task.game, "q_greedy", planner.support_threshold) if name == "q_greedy" else None
