"""The masked trajectory model: one bidirectional transformer over states, returns, actions and rewards.

Visible tokens go through the encoder; the decoder sees every token of the window, with a learned mask
token in each hole, and heads read predictions off its outputs. What the model is (policy, world model,
return predictor) is decided by the mask alone (`system.families.masked_trajectory.masks`).

Source: M³PC section IV, "Bidirectional Trajectory Model"; MTM section 3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import nn
from torch.nn import functional

from system.errors import PlannerError, ShapeError
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.flat_network import FlatNetwork
from system.families.masked_trajectory.mask_layout import MaskLayout, layout_of
from system.families.masked_trajectory.masks import ACTIONS, NUM_MODALITIES, RETURNS, REWARDS, STATES, Mask
from system.models.action_forms import action_form
from system.models.distributions import ActionDistribution
from system.models.transformer import Transformer, attention_mask, sinusoidal_positions

FLAT_WIDTHS = 8
"""Widths of the hidden layers of an MLP, in widths of the model."""

OF_WHOLE_STATES = (
    "the model was trained on whole states, and a goal names some dimensions; train one with "
    "model.partial_states: true"
)


@dataclass(frozen=True)
class Tokens:
    """A window's contents in the task's own units; steps that are not valid are ignored.

    Attributes:
        states, returns, rewards: hidden entries may hold anything finite.
        actions: vectors, or numbers of discrete actions; hidden entries may hold any action.
        valid: the step belongs to the episode.
        returns_known: the return-to-go is all there is to come; a visible one that is not is ignored as
            well. None where all are.
        actions_known, rewards_known: what was recorded; a visible one that was not is ignored as well. None where
            all are.
        states_known: of visible states the dimensions that are known; the others are ignored, and predicted.
            None where all are.
    """

    states: Float[torch.Tensor, "B T S"]
    returns: Float[torch.Tensor, "B T"]
    actions: Shaped[torch.Tensor, "B T *action"]
    rewards: Float[torch.Tensor, "B T"]
    valid: Bool[torch.Tensor, "B T"]
    returns_known: Bool[torch.Tensor, "B T"] | None = None
    states_known: Bool[torch.Tensor, "B T S"] | None = None
    actions_known: Bool[torch.Tensor, "B T"] | None = None
    rewards_known: Bool[torch.Tensor, "B T"] | None = None


@dataclass(frozen=True)
class Reconstruction:
    """The model's view of a window at the steps that were asked for, in the task's own units.

    Attributes:
        states, returns, rewards: expected values; without steps where they were not asked for.
        actions: distribution of each step's action; likewise.
    """

    states: Float[torch.Tensor, "B Q1 S"]
    returns: Float[torch.Tensor, "B Q2"]
    actions: ActionDistribution
    rewards: Float[torch.Tensor, "B Q3"]


class MaskedTrajectoryModel(nn.Module):
    """Encoder–decoder over the 4·T tokens of a window.

    Args:
        observation_dim, action_dim: S and A.
        config: sizes.
        discrete: actions are numbers of A actions: tokens are one-hot, and the head gives a categorical
            distribution in place of a Gaussian.

    Attributes:
        actions: the form of the actions.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    reward_scale: torch.Tensor
    return_scale: torch.Tensor
    positions: torch.Tensor

    def __init__(
        self, observation_dim: int, action_dim: int, config: ModelConfig, *, discrete: bool = False
    ) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.actions = action_form(action_dim, discrete=discrete, std=config.action_std)
        dims = self._ordered(states=observation_dim, returns=1, actions=self.actions.num_inputs, rewards=1)
        self.flat = None
        if config.network == "mlp":
            known = dims[STATES] if config.partial_states else 0
            inputs = [dim + known * (modality == STATES) for modality, dim in enumerate(dims)]
            self.flat = FlatNetwork(inputs, config.context_length, width, FLAT_WIDTHS * width)
        else:
            self._build_transformer(dims)
        self.state_head = self._regression_head(width, observation_dim)
        self.return_head = self._regression_head(width, 1)
        self.reward_head = self._regression_head(width, 1)
        self.action_head = nn.Linear(width, self.actions.num_outputs)
        # A wide first guess makes the first likelihoods astronomically bad; a small head starts near N(0, σ₀), or
        # near a uniform choice.
        nn.init.normal_(self.action_head.weight, std=0.01 / width**0.5)
        nn.init.zeros_(self.action_head.bias)
        self.register_buffer("positions", sinusoidal_positions(config.context_length, width))
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("reward_scale", torch.tensor([0.0, 1.0]))
        self.register_buffer("return_scale", torch.tensor([0.0, 1.0]))

    def _build_transformer(self, dims: list[int]) -> None:
        config, width = self.config, self.config.width
        self.embeddings = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        # Beside the embedding of what is known, with zeros where nothing is.
        partial = config.partial_states
        self.unknown_dimensions = nn.Linear(dims[STATES], width, bias=False) if partial else None
        self.encoder_modality = nn.Parameter(torch.zeros(NUM_MODALITIES, 1, width))
        self.encoder = Transformer(width, config.encoder_layers, config.num_heads, config.dropout)
        self.decoder_embeddings = nn.ModuleList(nn.Linear(width, width) for _ in dims)
        self.decoder_modality = nn.Parameter(torch.zeros(NUM_MODALITIES, 1, width))
        self.mask_tokens = nn.Parameter(torch.zeros(NUM_MODALITIES, 1, width))
        self.decoder = Transformer(width, config.decoder_layers, config.num_heads, config.dropout)

    def forward(self, tokens: Tokens, mask: Mask | MaskLayout) -> Float[torch.Tensor, "B M T D"]:
        """Decoder outputs of every token, for training.

        Raises:
            ShapeError: the window is not T steps long.
        """
        layout = layout_of(mask, tokens.states.device)
        decoded = self._outputs(tokens, layout, queries=None)
        return decoded.unflatten(1, (NUM_MODALITIES, self.config.context_length))

    def reconstruct(
        self, tokens: Tokens, mask: Mask | MaskLayout, *, first_step: int, modalities: tuple[int, ...]
    ) -> Reconstruction:
        """Predictions for the steps from `first_step` on.

        Args:
            tokens: the window; hidden entries are not looked at.
            mask: which tokens are visible.
            first_step: in [0, T).
            modalities: which of STATES, RETURNS, ACTIONS, REWARDS to predict; the others are empty.

        Raises:
            ShapeError: the window is not T steps long.
        """
        length = self.config.context_length
        layout = layout_of(mask, tokens.states.device)
        steps = torch.arange(first_step, length, device=tokens.states.device)
        queries = torch.cat([modality * length + steps for modality in modalities])
        decoded = self._outputs(tokens, layout, queries)
        rows = dict(zip(modalities, decoded.split(len(steps), dim=1), strict=True))
        empty = decoded[:, :0]
        return Reconstruction(
            states=self.predict_states(rows.get(STATES, empty), tokens, layout, first_step),
            returns=self.predict_scalar(rows.get(RETURNS, empty), RETURNS),
            actions=self.predict_actions(rows.get(ACTIONS, empty)),
            rewards=self.predict_scalar(rows.get(REWARDS, empty), REWARDS),
        )

    def predict_states(
        self,
        decoded: Float[torch.Tensor, "B Q D"],
        tokens: Tokens,
        mask: Mask | MaskLayout,
        first_step: int,
    ) -> Float[torch.Tensor, "B Q S"]:
        """States in the task's units: what the visible ones let expect, plus a predicted, standardised change."""
        if decoded.shape[1] == 0:
            return tokens.states[:, :0]
        layout = layout_of(mask, tokens.states.device)
        base = self._expected_states(tokens, layout)[:, first_step : first_step + decoded.shape[1]]
        return base + self.observation_std * self.state_head(decoded)

    def predict_scalar(self, decoded: Float[torch.Tensor, "B Q D"], modality: int) -> Float[torch.Tensor, "B Q"]:
        """Rewards or returns in the task's units."""
        head, scale = (
            (self.reward_head, self.reward_scale) if modality == REWARDS else (self.return_head, self.return_scale)
        )
        return scale[0] + scale[1] * head(decoded).squeeze(-1)

    def predict_actions(self, decoded: Float[torch.Tensor, "B Q D"]) -> ActionDistribution:
        """The distribution of each action."""
        return self.actions.distribution(self.action_head(decoded).float())

    def standardize_states(self, states: Float[torch.Tensor, "*B S"]) -> Float[torch.Tensor, "*B S"]:
        """(state − mean) / std of the training split."""
        return (states - self.observation_mean) / self.observation_std

    def represent(
        self, states: Float[torch.Tensor, "B S"], actions: Shaped[torch.Tensor, "B *action"] | None = None
    ) -> Float[torch.Tensor, "B outputs"]:
        """Encoder outputs of single steps: of a state alone, or of a state and an action side by side.

        Source: MTM section 4.5: states are encoded as windows of one step, of which nothing else is seen.
        """
        if self.flat is not None:
            return self._represent_flat(self.flat, states, actions)
        first = slice(1)
        tokens = [self.read(STATES, self.standardize_states(states)[:, None], first)]
        if actions is not None:
            tokens.append(self.read(ACTIONS, self.actions.encode(actions)[:, None], first))
        return self.encoder(torch.cat(tokens, dim=1)).flatten(1)

    def _represent_flat(
        self, flat: FlatNetwork, states: torch.Tensor, actions: torch.Tensor | None
    ) -> Float[torch.Tensor, "B hidden"]:
        """The last hidden layer of a window of which nothing but its first step is seen."""
        length, batch = self.config.context_length, len(states)
        steps = torch.zeros(NUM_MODALITIES, length, dtype=torch.bool, device=states.device)
        steps[STATES, 0], steps[ACTIONS, 0] = True, actions is not None
        taken = self.actions.encode(actions)[:, None] if actions is not None else None
        scalars = states.new_zeros(batch, length, 1)
        contents = self._ordered(
            states=functional.pad(self.standardize_states(states)[:, None], (0, 0, 0, length - 1)),
            returns=scalars,
            actions=scalars.expand(-1, -1, self.actions.num_inputs)
            if taken is None
            else functional.pad(taken, (0, 0, 0, length - 1)),
            rewards=scalars,
        )
        if self.config.partial_states:
            contents[STATES] = torch.cat([contents[STATES], torch.ones_like(contents[STATES])], dim=-1)
        return flat.represent(contents, steps.expand(batch, -1, -1))

    def read(
        self, modality: int, contents: Float[torch.Tensor, "B K inputs"], steps: slice
    ) -> Float[torch.Tensor, "B K D"]:
        """Tokens of some steps as the encoder reads them, from standardised contents."""
        return self.embeddings[modality](contents) + self.encoder_modality[modality] + self.positions[steps]

    def place(
        self, modality: int, encoded: Float[torch.Tensor, "B K D"], steps: slice
    ) -> Float[torch.Tensor, "B K D"]:
        """Encoder outputs of some steps as the decoder reads them."""
        embedded = self.decoder_embeddings[modality](encoded)
        return embedded + self.decoder_modality[modality] + self.positions[steps]

    def holes(self) -> Float[torch.Tensor, "M T D"]:
        """What the decoder reads where tokens are hidden."""
        length = self.config.context_length
        masked = self.mask_tokens.expand(-1, length, -1)
        rows = [self.place(modality, masked[modality, None], slice(None)) for modality in range(NUM_MODALITIES)]
        return torch.cat(rows)

    def _valid_tokens(self, tokens: Tokens, layout: MaskLayout) -> Bool[torch.Tensor, "B M T"]:
        """Which tokens may be attended to: those of the episode, without visible ones that are not known."""
        length = self.config.context_length
        if tokens.valid.shape[1] != length:
            raise ShapeError(f"a window of {tokens.valid.shape[1]} steps for a model of {length}")
        valid: list[torch.Tensor] = [tokens.valid] * NUM_MODALITIES
        recorded = {RETURNS: tokens.returns_known, ACTIONS: tokens.actions_known, REWARDS: tokens.rewards_known}
        for modality, known in recorded.items():
            if known is not None:
                valid[modality] = tokens.valid & (known | ~layout.seen[modality])
        return torch.stack(valid, dim=1)

    def _outputs(
        self, tokens: Tokens, layout: MaskLayout, queries: torch.Tensor | None
    ) -> Float[torch.Tensor, "B Q D"]:
        """The network's outputs of all tokens or of the rows in `queries`."""
        valid = self._valid_tokens(tokens, layout)
        if self.flat is None:
            return self._decode(self._encode(tokens, layout, valid), valid, layout, queries)
        contents = self._contents(tokens)
        if self.config.partial_states:
            known = torch.ones_like(contents[STATES]) if tokens.states_known is None else tokens.states_known
            contents[STATES] = torch.cat([contents[STATES], known.to(contents[STATES].dtype)], dim=-1)
        elif tokens.states_known is not None:
            raise PlannerError(OF_WHOLE_STATES)
        outputs = self.flat(contents, valid & layout.seen)
        return outputs if queries is None else outputs[:, queries]

    def _contents(self, tokens: Tokens) -> list[Float[torch.Tensor, "B T _"]]:
        """Standardised contents of all tokens, modality by modality; zeros where a dimension is not known."""
        standardized = self.standardize_states(tokens.states)
        if tokens.states_known is not None:
            standardized = standardized.where(tokens.states_known, 0.0)
        return self._ordered(
            states=standardized,
            returns=((tokens.returns - self.return_scale[0]) / self.return_scale[1])[..., None],
            actions=self.actions.encode(tokens.actions),
            rewards=((tokens.rewards - self.reward_scale[0]) / self.reward_scale[1])[..., None],
        )

    def _encode(
        self, tokens: Tokens, layout: MaskLayout, valid: Bool[torch.Tensor, "B M T"]
    ) -> Float[torch.Tensor, "B V D"]:
        """Encoder outputs of the visible tokens, in modality-major order; the entries that stand for none are read
        by nobody."""
        contents = self._contents(tokens)
        everything = slice(None)
        embedded = torch.cat([self.read(modality, each, everything) for modality, each in enumerate(contents)], 1)
        if tokens.states_known is not None:
            others = NUM_MODALITIES - 1 - STATES
            unknown = self._embed_unknown(tokens.states_known)
            length = unknown.shape[1]
            embedded = embedded + functional.pad(unknown, (0, 0, STATES * length, others * length))
        number = layout.seen.numel()
        visible = layout.visible.clamp_max(number - 1)
        attended = valid.flatten(1).index_select(1, visible) & (layout.visible < number)
        return self.encoder(embedded.index_select(1, visible), attention_mask(attended))

    def _embed_unknown(self, known: Bool[torch.Tensor, "B T S"]) -> Float[torch.Tensor, "B T D"]:
        """What is added to the embeddings of states of which some dimensions are not known."""
        if self.unknown_dimensions is None:
            raise PlannerError(OF_WHOLE_STATES)
        return self.unknown_dimensions((~known).to(self.observation_mean.dtype))

    def _decode(
        self,
        encoded: Float[torch.Tensor, "B V D"],
        valid: Bool[torch.Tensor, "B M T"],
        layout: MaskLayout,
        queries: torch.Tensor | None,
    ) -> Float[torch.Tensor, "B Q D"]:
        """Decoder outputs of all tokens or of the rows in `queries`."""
        batch, _, length = valid.shape
        number = NUM_MODALITIES * length
        # One place more, where entries that stand for no token go.
        holes = self.mask_tokens.expand(-1, length, -1).flatten(0, 1)
        holes = torch.cat([holes, holes[:1]]).to(encoded.dtype).expand(batch, -1, -1)
        window = holes.index_copy(1, layout.visible, encoded)[:, :number].unflatten(1, (NUM_MODALITIES, length))
        rows = [self.place(modality, window[:, modality], slice(None)) for modality in range(NUM_MODALITIES)]
        return self.decoder(torch.cat(rows, dim=1), attention_mask(valid.flatten(1)), queries)

    def _expected_states(self, tokens: Tokens, layout: MaskLayout) -> Float[torch.Tensor, "B T S"]:
        """What each state is predicted as a change from: the newest one that is visible at or before it, of states
        known in part dimension by dimension; the mean state where there is none. With `hidden_states: on_line` the
        line from there to the next visible one, or that one where there is none before."""
        seen = layout.seen[STATES] & tokens.valid
        known = seen[..., None].expand_as(tokens.states)
        if tokens.states_known is not None:
            known = known & tokens.states_known
        steps = torch.arange(seen.shape[1], device=seen.device)[:, None]
        before = torch.where(known, steps, -1).cummax(dim=1).values
        latest = tokens.states.gather(1, before.clamp_min(0))
        if self.config.hidden_states == "from_latest":
            return torch.where(before >= 0, latest, self.observation_mean)
        end = seen.shape[1]
        after = torch.where(known, steps, end).flip(1).cummin(dim=1).values.flip(1)
        following = tokens.states.gather(1, after.clamp_max(end - 1))
        share = (steps - before) / (after - before).clamp_min(1)
        line = latest + share * (following - latest)
        one_sided = torch.where(before >= 0, latest, torch.where(after < end, following, self.observation_mean))
        return torch.where((before >= 0) & (after < end), line, one_sided)

    @staticmethod
    def _regression_head(width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))

    @staticmethod
    def _ordered(*, states: object, returns: object, actions: object, rewards: object) -> list:
        """One entry per modality, in the order of the masks."""
        ordered: list = [None] * NUM_MODALITIES
        ordered[STATES], ordered[RETURNS], ordered[ACTIONS], ordered[REWARDS] = states, returns, actions, rewards
        return ordered
