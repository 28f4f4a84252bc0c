"""The differentiable family's own section of the configuration, and what must hold of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from system.config.rebrac import ReBRACConfig
from system.config.sections import RunConfig, setting
from system.errors import ConfigError

NAME = "differentiable"

ModelKind = Literal["mean_flow", "diffusion", "ensemble"]


@dataclass(frozen=True)
class WorldModelConfig:
    kind: ModelKind = setting(
        "mean_flow",
        doc="of what follows: drawn in one step, by a few steps of denoising, or by one of several Gaussians",
    )
    width: int = setting(256, low=8, high=8192, doc="of every hidden layer")
    layers: int = setting(2, low=1, high=16, doc="hidden layers")
    members: int = setting(4, low=2, high=32, doc="of an ensemble")
    diffusion_steps: int = setting(200, low=2, high=10_000, doc="noise levels that denoising learns")
    sampling_steps: int = setting(4, low=1, high=1000, doc="of them, those that a draw goes through")


@dataclass(frozen=True)
class WorldModelTrainingConfig:
    learning_rate: float = setting(3e-4, low=0.0, high=1.0)
    final_learning_rate_fraction: float = setting(0.05, low=0.0, high=1.0, doc="end of the offline cosine")
    warmup_steps: int = setting(100, low=0, doc="linear warm-up, in update steps")
    weight_decay: float = setting(0.0, low=0.0, high=1.0, doc="on weight matrices only")
    gradient_clip: float = setting(1.0, low=0.0, doc="largest global gradient norm")
    weight_average: float = setting(
        0.995, low=0.0, high=0.99999, doc="decay of the running average of weights that imagines; 0: the newest do"
    )
    average_velocity_share: float = setting(
        0.25, low=0.0, high=1.0, doc="mean_flow: of a batch, rows that learn to skip a stretch of the flow"
    )


@dataclass(frozen=True)
class DifferentiableConfig:
    """The world model, how it learns, and the policy and critics beside it."""

    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: WorldModelTrainingConfig = field(default_factory=WorldModelTrainingConfig)
    critic: ReBRACConfig = field(default_factory=ReBRACConfig)

    @property
    def context_length(self) -> int:
        """T: an observation says all, and a window holds the one before it, too."""
        return 2


def validate(config: RunConfig) -> None:
    """Steps of a draw, members of an ensemble, and what an ascent needs.

    Raises:
        ConfigError: names the key.
    """
    model, planner = config.method.model, config.planner
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"{NAME}.model.sampling_steps: {model.sampling_steps} exceeds {NAME}.model.diffusion_steps = "
            f"{model.diffusion_steps}"
        )
    if planner.name in config.evaluation.policies and planner.horizon < 1:
        raise ConfigError(
            f"planner.horizon: 0 leaves {planner.name} nothing to imagine; rebrac acts without a plan"
        )
    if not planner.ascent.rate > 0.0:
        raise ConfigError("planner.ascent.rate: 0 changes nothing; planner.ascent.steps: 0 says so")
    if model.kind == "ensemble" and planner.ascent.num_noise % model.members:
        raise ConfigError(
            f"planner.ascent.num_noise: {planner.ascent.num_noise} is not divisible by {NAME}.model.members = "
            f"{model.members}"
        )
    for key in ("model_pessimism", "uncertainty_penalty"):
        if getattr(planner.ascent, key) > 0.0 and model.kind != "ensemble":
            raise ConfigError(
                f"planner.ascent.{key}: asks for an ensemble of models, and {NAME}.model.kind is {model.kind}"
            )


def sizes(config: RunConfig) -> dict[str, Any]:
    """The keys that a checkpoint's weights are made for, with their values."""
    model, critic = config.method.model, config.method.critic
    return {
        "model": {name: getattr(model, name) for name in ("kind", "width", "layers", "members")},
        "critic": {
            name: getattr(critic, name) for name in ("hidden_width", "hidden_layers", "num_critics", "layer_norm")
        },
    }
