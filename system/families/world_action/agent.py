"""What acting on frames needs, as one module: tokenizer, world-action model, its target and the games' buttons."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int16, UInt8
from torch import nn

from system.config import RunConfig
from system.envs.atari_games import GAMES, NUM_ACTIONS
from system.errors import ConfigError
from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.families.world_action.model import WorldActionModel
from system.seeding import derive_seed
from system.types import TaskSpec


class WorldActionAgent(nn.Module):
    """The frozen frame tokenizer, the world-action model with a target of its Q head, and which actions mean what.

    A checkpoint of this module alone can act.

    Args:
        task: number of actions, and which of them its game knows.
        config: sizes; also the seed of the initial weights.

    Raises:
        ConfigError: the task shows no frames, or its actions are continuous.
    """

    valid_actions: torch.Tensor

    def __init__(self, task: TaskSpec, config: RunConfig) -> None:
        super().__init__()
        if task.frame_shape is None or not task.is_discrete:
            raise ConfigError(
                f"family: world_action is for frames and discrete actions, not {task.environment_id}"
            )
        self.task = task
        tokenizer = config.method.tokenizer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.tokenizer = FrameTokenizer(tokenizer, task.frame_shape)
            self.model = WorldActionModel(
                vocabulary=self.tokenizer.vocabulary_size,
                tokens_per_frame=tokenizer.tokens_per_side**2,
                num_actions=task.action_dim,
                num_games=len(GAMES),
                config=config.method.model,
                clones=config.method.training.imitates,
            )
        self.target_head = copy.deepcopy(self.model.q_head)
        self.tokenizer.requires_grad_(False)
        self.target_head.requires_grad_(False)
        self.register_buffer("valid_actions", _valid_actions(task))
        self.train()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.valid_actions.device

    def perceive(self, observations: UInt8[np.ndarray, "N height width"], game: int) -> Int16[np.ndarray, "N K"]:
        """What of the frames of a game is remembered: their tokens."""
        return self.tokenizer.perceive(observations, np.full(len(observations), game, np.int64))

    def set_tokenizer(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Takes over a trained tokenizer's weights; they travel with the agent's from then on."""
        self.tokenizer.load_state_dict(dict(weights))

    def train(self, mode: bool = True) -> "WorldActionAgent":
        """As usual, but what is not trained stays in evaluation mode."""
        super().train(mode)
        self.tokenizer.eval()
        self.target_head.eval()
        return self


def _valid_actions(task: TaskSpec) -> torch.Tensor:
    """[games, A] bool: the actions that each game knows, the task's own as it says."""
    table = torch.zeros(len(GAMES), task.action_dim, dtype=torch.bool)
    known = {game.index: game.minimal_actions for game in GAMES} if task.action_dim == NUM_ACTIONS else {}
    for game, actions in {**known, task.game: task.valid_actions}.items():
        table[game, list(actions)] = True
    return table
