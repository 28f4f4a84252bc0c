"""The imagination family's own section of the configuration, and what must hold of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from system.config.sections import CriticConfig, RunConfig, setting
from system.errors import ConfigError

NAME = "imagination"


@dataclass(frozen=True)
class DistilledModelConfig:
    context_length: int = setting(20, low=2, high=256, doc="time steps T seen by the transformer")
    width: int = setting(64, low=8, high=4096, doc="embedding width D")
    num_layers: int = setting(2, low=1, high=48)
    num_heads: int = setting(4, low=1, high=64)


@dataclass(frozen=True)
class WorldModelConfig:
    num_members: int = setting(3, low=2, high=32, doc="ensemble members E")
    hidden_width: int = setting(400, low=8, high=8192)
    hidden_layers: int = setting(2, low=1, high=16)
    learning_rate: float = setting(3e-4, low=0.0, high=1.0)
    objective: Literal["likelihood", "consistency"] = setting(
        "likelihood", doc="every member's own likelihood, or the members' mean alone as in eq. 14"
    )
    regularised_log_variance: float = setting(-4.5, low=-10.0, high=0.2, doc="log of Σ_reg's diagonal")
    regulariser_scale: float = setting(1.0, low=0.0, doc="γ_0 of eq. 15")
    regulariser_decay_steps: float = setting(1e5, low=1.0, doc="T of eq. 15, in update steps of the world model")
    transition_weight: float = setting(0.5, low=0.0, doc="α_c of eq. 16")
    outcome_weight: float = setting(0.5, low=0.0, doc="α_r of eq. 16, of rewards and ends")


@dataclass(frozen=True)
class AugmentationConfig:
    ratio: float = setting(0.3, low=0.0, high=10.0, doc="N_aug: imagined steps for each recorded one; 0: none")
    horizon: int = setting(10, low=1, high=64, doc="H_I, imagined steps from a recorded state on")
    rollouts: Literal["planned", "greedy"] = setting(
        "planned", doc="by the configured planner, or by the quasi-optimal policy alone"
    )
    reliable_quantile: float = setting(
        0.9, low=0.0, high=1.0, doc="κ is this quantile of the members' disagreement about held-out steps"
    )
    largest_deviation: float = setting(
        10.0, low=0.1, doc="an imagined observation farther than so many standard deviations has exploded"
    )
    refresh_every_env_steps: int | None = setting(
        5000, low=1, doc="online: imagine anew about new episodes and a part of the dataset; None: never"
    )
    refreshed_share: float = setting(0.1, low=0.0, high=1.0, doc="of the dataset, that part")


@dataclass(frozen=True)
class DistillationConfig:
    batch_size: int = setting(64, low=1, doc="segments a step, over all learners, imagined ones included")
    learning_rate: float = setting(3e-4, low=0.0, high=1.0)
    final_learning_rate_fraction: float = setting(0.1, low=0.0, high=1.0, doc="end of the cosine")
    online_learning_rate: float = setting(1e-4, low=0.0, high=1.0, doc="constant in the online stage")
    warmup_steps: int = setting(100, low=0, doc="linear warm-up, in update steps")
    weight_decay: float = setting(1e-4, low=0.0, high=1.0, doc="on weight matrices only")
    gradient_clip: float = setting(1.0, low=0.0, doc="largest global gradient norm")
    foundation_share: float = setting(
        0.6, low=0.0, high=1.0, doc="of pretraining's steps, those that train world model and values; first"
    )
    huber_quantile: float = setting(
        0.96, low=0.0, high=1.0, doc="δ of the value loss is this quantile of recent errors"
    )
    q_weight: float = setting(0.1, low=0.0, doc="α of eq. 26, of Q in standard deviations of the returns")
    imagined_share: float = setting(
        1.0, low=0.0, high=1.0, doc="of a batch's windows, those that are imagined, where anything was"
    )
    judged_by: Literal["planner", "distilled"] = setting(
        "planner", doc="what acts for the run: sweeps compare it, and it explores where that is configured"
    )
    asked: Literal["value", "return"] = setting(
        "value", doc="the token that actions are asked for by: V of each state, or the return-to-go"
    )


@dataclass(frozen=True)
class ImaginationConfig:
    """What only this family knows: world model, values, what is imagined, and what is distilled of it."""

    model: DistilledModelConfig = field(default_factory=DistilledModelConfig)
    world: WorldModelConfig = field(default_factory=WorldModelConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: DistillationConfig = field(default_factory=DistillationConfig)

    @property
    def context_length(self) -> int:
        """T, time steps that the transformer sees."""
        return self.model.context_length


def foundation_steps(config: RunConfig) -> int:
    """Update steps of pretraining that train world model and values; what is distilled follows."""
    return round(config.method.training.foundation_share * config.pretrain.update_steps)


def validate(config: RunConfig) -> None:
    """Widths, a window that an imagined segment and some past fit into, and planner keys that mean nothing here.

    Raises:
        ConfigError: names the key.
    """
    model, augmentation = config.method.model, config.method.augmentation
    if model.width % model.num_heads:
        raise ConfigError(
            f"{NAME}.model.width: {model.width} is not divisible by {NAME}.model.num_heads = {model.num_heads}"
        )
    if augmentation.horizon >= model.context_length:
        raise ConfigError(
            f"{NAME}.augmentation.horizon: {augmentation.horizon} imagined steps leave no past in a window of "
            f"{NAME}.model.context_length = {model.context_length}"
        )
    if config.method.critic.updates_per_step < 1:
        raise ConfigError(f"{NAME}.critic.updates_per_step: 0 leaves world model and values untrained")
    if config.planner.support_threshold > 0.0:
        raise ConfigError(
            f"planner.support_threshold: {config.planner.support_threshold:g} is for planners that look at "
            f"likelihoods, and family {NAME} has none"
        )


def sizes(config: RunConfig) -> dict[str, Any]:
    """The keys that a checkpoint's weights are made for, with their values."""
    model, world, critic = config.method.model, config.method.world, config.method.critic
    return {
        "model": {name: getattr(model, name) for name in ("context_length", "width", "num_layers", "num_heads")},
        "world": {name: getattr(world, name) for name in ("num_members", "hidden_width", "hidden_layers")},
        "critic": {name: getattr(critic, name) for name in ("hidden_width", "num_critics", "layer_norm")},
    }
