"""The world-action model: one causal transformer that predicts frames, rewards and ends, and values actions.

Each step of a sequence is K tokens of the frame, then one of the action; to every token the game's embedding
and that of its position are added. What is read where:

    next token            at every token that precedes a frame token (the action precedes the next frame), beside
                          what stood there in the frame before (`next_token`)
    reward, termination   at the action
    value of each action  at the frame's last token; what the data's players would do, where that is learnt

Positions are absolute and count from 0 at the first frame that is given, so sequences are aligned on the
left (`left_aligned`), in training as at play.

Source: JOWA section 4.1.1, figure 1, eqs. 5–7.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import nn
from torch.nn import functional

from system.errors import ShapeError
from system.families.world_action.categorical_value import CategoricalValueHead
from system.families.world_action.config import WorldActionConfig
from system.families.world_action.next_token import NextTokenHead
from system.models.causal_transformer import AttentionMemory, CausalTransformer

INITIAL_STD = 0.02
NUM_REWARD_CLASSES = 3
NUM_END_CLASSES = 2


def left_aligned(
    values: Shaped[torch.Tensor, "B T *rest"], valid: Bool[torch.Tensor, "B T1"]
) -> Shaped[torch.Tensor, "B T *rest"]:
    """Rolls windows that are padded on the left, or on both sides, so that they are padded on the right.

    Args:
        values: of the T1 steps, or of the T1 − 1 gaps between them.
        valid: True in one stretch of each window.
    """
    length = values.shape[1]
    padding = valid.int().argmax(dim=1)
    order = (torch.arange(length, device=values.device) + padding[:, None]) % max(1, length)
    return values[torch.arange(values.shape[0], device=values.device)[:, None], order]


@dataclass(frozen=True)
class WorldActionCache:
    """M sequences that the model has read, to be gone on with: see `WorldActionModel.prefill`.

    Going on with a cache uses it up; `select` copies, and is how to branch.

    Attributes:
        hidden: the model's output at each sequence's latest token.
        memory: what attention has read.
        next_position: of each sequence's next token.
        game: of each sequence.
        frames_left: how many more frames the longest sequence has positions for.
        frame: tokens of the latest frames.
    """

    hidden: Float[torch.Tensor, "M D"]
    memory: AttentionMemory
    next_position: Int[torch.Tensor, "M"]
    game: Int[torch.Tensor, "M"]
    frames_left: int
    frame: Int[torch.Tensor, "M K"]

    def select(self, rows: Int[torch.Tensor, "M2"], *, room: int = 0) -> "WorldActionCache":
        """Row i of the result goes on from row `rows[i]`; rows may be left out or come several times.

        Args:
            rows: indices into this cache's rows.
            room: tokens to make room for already (K + 1 for one step of imagination).
        """
        return replace(
            self,
            hidden=self.hidden[rows],
            memory=self.memory.select(rows, room),
            next_position=self.next_position[rows],
            game=self.game[rows],
            frame=self.frame[rows],
        )


def _perceptron(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


class WorldActionModel(nn.Module):
    """World model and value function over frame tokens and discrete actions.

    Args:
        vocabulary: number of different frame tokens.
        tokens_per_frame: K.
        num_actions: A.
        num_games: of the tables of task embeddings.
        config: sizes.
        clones: whether there is an output for imitating actions.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        tokens_per_frame: int,
        num_actions: int,
        num_games: int,
        config: WorldActionConfig,
        clones: bool = False,
    ) -> None:
        super().__init__()
        self.tokens_per_frame = tokens_per_frame
        self.context_length = config.context_length
        width = config.width
        self.token_table = nn.Parameter(torch.empty(vocabulary, width))
        self.action_table = nn.Parameter(torch.empty(num_actions, width))
        self.frame_game_table = nn.Parameter(torch.empty(num_games, width))
        self.action_game_table = nn.Parameter(torch.empty(num_games, width))
        self.step_table = nn.Parameter(torch.empty(config.context_length, width))
        self.place_table = nn.Parameter(torch.empty(tokens_per_frame + 1, width))
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = CausalTransformer(width, config.num_layers, config.num_heads, config.dropout)
        self.token_head = NextTokenHead(_perceptron(width, vocabulary), width)
        self.reward_head = _perceptron(width, NUM_REWARD_CLASSES)
        self.end_head = _perceptron(width, NUM_END_CLASSES)
        self.apply(_initialize)
        for table in (
            self.token_table,
            self.action_table,
            self.frame_game_table,
            self.action_game_table,
            self.step_table,
            self.place_table,
        ):
            nn.init.normal_(table, std=INITIAL_STD)
        self.q_head = CategoricalValueHead(width, num_actions, config)
        self.clone_output = nn.Linear(config.q_width, num_actions) if clones else None

    def forward(
        self,
        tokens: Int[torch.Tensor, "B T K"],
        actions: Int[torch.Tensor, "B T"],
        game: Int[torch.Tensor, "B"],
    ) -> Float[torch.Tensor, "B T K1 D"]:
        """The backbone's output at every token of sequences that begin at position 0.

        Padding is on the right, and may hold any token and action: nothing before it sees it.

        Args:
            tokens: of T frames.
            actions: executed at each of them.
            game: of each sequence.

        Returns:
            Of each step the outputs at its K frame tokens, then at its action.

        Raises:
            ShapeError: there are more than `context_length` frames, or K is not the model's.
        """
        hidden = self.backbone(self._sequence(tokens, actions, game))
        return hidden.unflatten(1, (-1, self.tokens_per_frame + 1))

    def frame_features(
        self,
        tokens: Int[torch.Tensor, "B T K"],
        actions: Int[torch.Tensor, "B T"],
        game: Int[torch.Tensor, "B"],
    ) -> Float[torch.Tensor, "B T D"]:
        """The outputs of `forward` at the frames' last tokens, from which actions are valued; the others are not
        computed."""
        per_step = self.tokens_per_frame + 1
        last = torch.arange(tokens.shape[1], device=tokens.device) * per_step + self.tokens_per_frame - 1
        return self.backbone(self._sequence(tokens, actions, game), last)

    @property
    def num_valued_frames(self) -> int:
        """How many frames, imagined ones included, values should be read in: at the last position of a training
        window there is no next frame to learn a value from."""
        return self.context_length - 1

    def positions_at(self, indices: Int[torch.Tensor, "*B"]) -> Float[torch.Tensor, "*B D"]:
        """What tells the tokens at these positions of a sequence apart: the sum of a vector of the step and one of
        the place within the step (its K frame tokens, then its action), 0 ≤ index < `context_length` · (K + 1).

        What is learnt of a place in one step thus holds in all of them.
        """
        per_step = self.tokens_per_frame + 1
        return self.step_table[indices // per_step] + self.place_table[indices % per_step]

    def reward_logits(self, hidden: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B 3"]:
        """At an action: of the reward's sign, −1, 0 and 1 in this order."""
        return self.reward_head(hidden).float()

    def end_logits(self, hidden: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B 2"]:
        """At an action: of going on and of reaching a terminal state."""
        return self.end_head(hidden).float()

    def q_values(self, hidden: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B A"]:
        """At a frame's last token: the expected discounted sum of reward signs of every action."""
        return self.q_head.expected(hidden)

    def clone_logits(self, hidden: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B A"]:
        """At a frame's last token: of the action that the data's players would take.

        Raises:
            ShapeError: the model was made without `clones`.
        """
        if self.clone_output is None:
            raise ShapeError("the world-action model has no output for imitating actions (training.clone_weight)")
        return self.clone_output(self.q_head.trunk(hidden).mean(dim=0)).float()

    def considered_actions(
        self, hidden: Float[torch.Tensor, "*B D"], valid_actions: Bool[torch.Tensor, "*B1 A"], threshold: float
    ) -> Bool[torch.Tensor, "*B2 A"]:
        """At a frame's last token: the valid actions that are worth a thought, π(a|s) ≥ τ·max π(·|s) of the data's
        players.

        Where data are few, Q of an action that nobody takes is a guess, and the largest of several guesses is too
        large (discrete BCQ: Fujimoto et al. 2019, "Benchmarking Batch Deep Reinforcement Learning Algorithms").

        Args:
            hidden: outputs at the frames' last tokens.
            valid_actions: of the games.
            threshold: τ. 0 considers all of them, 1 the likeliest alone.

        Raises:
            ShapeError: τ > 0 and the model was made without `clones`.
        """
        if threshold == 0.0:
            return valid_actions
        logits = self.clone_logits(hidden).masked_fill(~valid_actions, -torch.inf)
        return logits >= logits.amax(dim=-1, keepdim=True) + math.log(threshold)

    @torch.no_grad()
    def prefill(
        self,
        tokens: Int[torch.Tensor, "B T K"],
        actions: Int[torch.Tensor, "B T-1"],
        num_steps: Int[torch.Tensor, "B"],
        game: Int[torch.Tensor, "B"],
    ) -> WorldActionCache:
        """Reads histories up to the last token of their current frames.

        Args:
            tokens: of up to T frames, aligned on the left; what stands behind the current frame is ignored.
            actions: between the frames, likewise.
            num_steps: frames of each history, 1 … T.
            game: of each history.

        Returns:
            A cache whose `hidden` values the current frame's actions, and to go on from (`drafted_frames`).

        Raises:
            ShapeError: there are more frames than the model has positions for.
        """
        per_step = self.tokens_per_frame + 1
        frames = self._embed_frames(tokens, game)
        acts = self._embed_actions(actions, game)[:, :, None]
        past = torch.cat([frames[:, :-1], acts], 2).flatten(1, 2)
        sequence = torch.cat([past, frames[:, -1]], 1)
        num_tokens = num_steps * per_step - 1
        hidden, memory = self.backbone.read(self._placed(sequence), num_tokens)
        frames_left = self.context_length - int(num_steps.max())
        latest = tokens[torch.arange(len(tokens), device=tokens.device), num_steps - 1]
        return WorldActionCache(hidden, memory, num_tokens, game, frames_left, latest)

    def _placed(self, sequence: Float[torch.Tensor, "B n D"]) -> Float[torch.Tensor, "B n D"]:
        return sequence + self.positions_at(torch.arange(sequence.shape[1], device=sequence.device))

    def _sequence(
        self,
        tokens: Int[torch.Tensor, "B T K"],
        actions: Int[torch.Tensor, "B T"],
        game: Int[torch.Tensor, "B"],
    ) -> Float[torch.Tensor, "B n D"]:
        """What the backbone reads of whole windows."""
        steps = torch.cat([self._embed_frames(tokens, game), self._embed_actions(actions, game)[:, :, None]], 2)
        return self.dropout(self._placed(steps.flatten(1, 2)))

    def _embed_frames(
        self, tokens: Int[torch.Tensor, "B T K"], game: Int[torch.Tensor, "B"]
    ) -> Float[torch.Tensor, "B T K D"]:
        _, num_frames, per_frame = tokens.shape
        if num_frames > self.context_length or per_frame != self.tokens_per_frame:
            raise ShapeError(
                f"{num_frames} frames of {per_frame} tokens, but the model reads at most {self.context_length} "
                f"of {self.tokens_per_frame}"
            )
        return functional.embedding(tokens, self.token_table) + self.frame_game_table[game][:, None, None]

    def _embed_actions(
        self, actions: Int[torch.Tensor, "B T"], game: Int[torch.Tensor, "B"]
    ) -> Float[torch.Tensor, "B T D"]:
        return functional.embedding(actions, self.action_table) + self.action_game_table[game][:, None]


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode within, and as it was behind."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _initialize(module: nn.Module) -> None:
    """Small normal weights and no biases, as of GPT-2."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        nn.init.zeros_(module.bias)
