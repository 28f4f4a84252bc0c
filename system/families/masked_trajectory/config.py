"""The masked trajectory family's own section of the configuration, and what must hold of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from system.config.registry import ChangedKey
from system.config.sections import CriticConfig, RunConfig, setting
from system.errors import ConfigError

NAME = "masked_trajectory"

TrainingMaskName = Literal[
    "behaviour_cloning",
    "return_conditioned",
    "forward_dynamics",
    "reward_return",
    "inverse_dynamics",
    "path_inference",
    "random",
]
"""What `training.mask_shares` may name: the masks that ask for something, and plainly random ones."""

MaskName = Literal[
    "behaviour_cloning",
    "return_conditioned",
    "forward_dynamics",
    "reward_return",
    "inverse_dynamics",
    "path_inference",
]


def planning_masks(share: float) -> dict[TrainingMaskName, float]:
    """Half of `share` each for the two masks that forward MPC uses."""
    return {"return_conditioned": share / 2, "forward_dynamics": share / 2}


@dataclass(frozen=True)
class ModelConfig:
    network: Literal["transformer", "mlp"] = setting(
        "transformer",
        doc="mlp: fully connected layers of 8 times the width over whole windows, which learn faster on a core",
    )
    context_length: int = setting(8, low=2, high=256, doc="time steps T seen by the transformer")
    width: int = setting(64, low=8, high=4096, doc="embedding width D")
    encoder_layers: int = setting(2, low=1, high=48)
    decoder_layers: int = setting(1, low=1, high=48)
    num_heads: int = setting(4, low=1, high=64)
    dropout: float = setting(0.0, low=0.0, high=0.9)
    action_std: float = setting(
        0.0, low=0.0, high=7.0, doc="fixed standard deviation of vectors of actions before tanh; 0: it is learnt"
    )
    hidden_states: Literal["from_latest", "on_line"] = setting(
        "from_latest",
        doc="hidden states are predicted as a change from the latest visible one, or from the line between it and "
        "the next visible one",
    )
    partial_states: bool = setting(
        False, doc="states may be known in part: goals of some dimensions alone; trained with path_inference"
    )


@dataclass(frozen=True)
class TrajectoryTrainingConfig:
    batch_size: int = setting(64, low=1, doc="segments a step, over all learners")
    learning_rate: float = setting(1e-3, low=0.0, high=1.0)
    final_learning_rate_fraction: float = setting(0.05, low=0.0, high=1.0, doc="end of the cosine")
    warmup_steps: int = setting(100, low=0, doc="linear warm-up, in update steps")
    weight_decay: float = setting(5e-3, low=0.0, high=1.0, doc="on weight matrices only")
    beta2: float = setting(0.95, low=0.5, high=0.99999, doc="Adam's second-moment decay")
    gradient_clip: float = setting(1.0, low=0.0, doc="largest global gradient norm")
    planning_step_share: float = setting(
        0.5, low=0.0, high=1.0, doc="of the named masks, those whose current step is where the planner acts"
    )
    mask_shares: Mapping[TrainingMaskName, float] = field(
        default_factory=lambda: planning_masks(0.6),
        metadata={
            "low": 0.0,
            "high": 1.0,
            "doc": "share of the steps that train each named mask; the rest train random autoregressive ones",
        },
    )
    keep_ratios: tuple[float, ...] = setting(
        (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0), low=0.0, high=1.0, doc="of steps that random masks keep"
    )
    target_entropy_per_dim: float = setting(-1.0, doc="lower bound of action entropy, times A")
    target_entropy_share: float = setting(
        0.1, low=0.0, high=1.0, doc="the same of discrete actions, as a share of log A"
    )
    entropy_learning_rate: float = setting(1e-3, low=0.0, high=1.0, doc="of the dual variable α")
    online_learning_rate: float = setting(
        1e-4, low=0.0, high=1.0, doc="peak in the online stage, after a warm-up and before a cosine of its own"
    )
    online_advantage_temperature: float = setting(
        0.0, low=0.0, high=1e4, doc="β of the online stage's weights exp(β (Q − V)) of actions; 0: all count alike"
    )
    weight_average: float = setting(
        0.998, low=0.0, high=0.99999, doc="decay of the running average of weights that acts; 0: the newest act"
    )


@dataclass(frozen=True)
class MaskedTrajectoryConfig:
    """What only this family knows: its transformer, how it learns, and the critics beside it."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrajectoryTrainingConfig = field(default_factory=TrajectoryTrainingConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)

    @property
    def context_length(self) -> int:
        """T, time steps that the model sees."""
        return self.model.context_length


def validate(config: RunConfig) -> None:
    """Widths, a plan that fits into the model's window, and planner keys that this family's planners lack.

    Raises:
        ConfigError: names the key.
    """
    model = config.method.model
    if model.width % model.num_heads:
        raise ConfigError(
            f"{NAME}.model.width: {model.width} is not divisible by {NAME}.model.num_heads = {model.num_heads}"
        )
    total = sum(config.method.training.mask_shares.values())
    if total > 1.0 + 1e-9:
        raise ConfigError(f"{NAME}.training.mask_shares: add up to {total:g}, and all steps are 1")
    updates = max(critic_updates(config, stage) for stage in ("offline", "online"))
    if config.dataset.incomplete == "keep" and updates:
        raise ConfigError(
            f"{NAME}.critic.updates_per_step: {updates}, and critics learn from whole transitions: "
            "dataset.incomplete: keep goes with 0"
        )
    if not config.method.training.keep_ratios:
        raise ConfigError(f"{NAME}.training.keep_ratios: at least one ratio is needed")
    if model.partial_states and not config.method.training.mask_shares.get("path_inference"):
        raise ConfigError(
            f"{NAME}.model.partial_states: only masks of path_inference show states in part; give them a share of "
            f"{NAME}.training.mask_shares"
        )
    if config.planner.horizon > model.context_length:
        raise ConfigError(
            f"planner.horizon: {config.planner.horizon} exceeds {model.context_length}, all that "
            f"{NAME}.model.context_length = {model.context_length} leaves room for"
        )
    if config.planner.name == "backward_mpc" and not 1 <= config.planner.horizon < model.context_length:
        raise ConfigError(
            f"planner.horizon: {config.planner.horizon} steps to a goal, and a window of "
            f"{NAME}.model.context_length = {model.context_length} has room for 1 to {model.context_length - 1}"
        )
    if config.planner.support_threshold > 0.0:
        raise ConfigError(
            f"planner.support_threshold: {config.planner.support_threshold:g} is for planners that look at "
            f"likelihoods, and family {NAME} has none"
        )


CHANGED = {
    f"{NAME}.training.task_mask_share": ChangedKey(
        f"{NAME}.training.mask_shares",
        lambda share: planning_masks(share) if isinstance(share, int | float) else share,
    )
}
"""Keys of earlier versions."""


def critic_updates(config: RunConfig, stage: str) -> int:
    """Updates of the critics beside each one of the trajectory model."""
    critic = config.method.critic
    if stage == "offline" or critic.online_updates_per_step is None:
        return int(critic.updates_per_step)
    return int(critic.online_updates_per_step)


def sizes(config: RunConfig) -> dict[str, Any]:
    """The keys that a checkpoint's weights are made for, with their values."""
    model, critic = config.method.model, config.method.critic
    kept = (
        *("network", "context_length", "width", "encoder_layers", "decoder_layers", "num_heads"),
        *("partial_states", "hidden_states", "action_std"),
    )
    return {
        "model": {name: getattr(model, name) for name in kept},
        "critic": {name: getattr(critic, name) for name in ("hidden_width", "num_critics", "layer_norm")},
    }
