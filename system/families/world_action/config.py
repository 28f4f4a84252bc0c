"""The world-action family's own section of the configuration, and what must hold of it."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from system.config.sections import RunConfig, setting
from system.errors import ConfigError

NAME = "world_action"

UNTRAINED_POLICIES: dict[str, tuple[str, ...]] = {
    "jowa": ("clone", "clone_sampled"),
    "clone": ("q_greedy", "beam"),
    "conservative_q": ("clone", "clone_sampled", "beam"),
}
"""What would act from outputs that an objective does not train."""


@dataclass(frozen=True)
class TokenizerConfig:
    vocabulary: int = setting(2048, low=2, high=32768, doc="number of different tokens")
    tokens_per_side: int = setting(6, low=1, high=84, doc="K is its square; divides the frame's sides")
    update_steps: int = setting(400, low=1)
    batch_size: int = setting(128, low=1, doc="frames a step, over all games")
    moving_share: float = setting(0.75, low=0.0, high=1.0, doc="of the patches learnt from, those that changed")
    start: Literal["tuned", "kept", "new"] = setting(
        "tuned", doc="that of pretrain.from_checkpoint: trained further on the dataset, as it is, or a new one"
    )


@dataclass(frozen=True)
class WorldActionConfig:
    context_length: int = setting(8, low=2, high=256, doc="frames T seen by the transformer")
    width: int = setting(128, low=8, high=4096, doc="embedding width D")
    num_layers: int = setting(3, low=1, high=48)
    num_heads: int = setting(4, low=1, high=64)
    dropout: float = setting(0.0, low=0.0, high=0.9)
    q_width: int = setting(256, low=8, high=8192, doc="hidden width of the Q head")
    q_dropout: float = setting(0.0, low=0.0, high=0.9, doc="of the Q head's first layer")
    num_q_heads: int = setting(1, low=1, high=16, doc="members E of the Q ensemble")
    num_atoms: int = setting(51, low=2, high=1001, doc="Z, of the return distribution")
    value_low: float = setting(-10.0, doc="smallest return on the support")
    value_high: float = setting(30.0, doc="largest return on the support")

    @property
    def drops_out(self) -> bool:
        """Whether two passes of training differ."""
        return self.dropout > 0.0 or self.q_dropout > 0.0


@dataclass(frozen=True)
class WorldActionTrainingConfig:
    objective: Literal["jowa", "clone", "conservative_q"] = setting(
        "jowa", doc="joint; behaviour cloning alone; TD and CQL without the world losses (the baselines)"
    )
    batch_size: int = setting(16, low=1, doc="segments a step, over all learners")
    optimizer: Literal["adamw", "muon"] = setting("adamw", doc="muon: of the backbone's matrices alone")
    muon_rate_factor: float = setting(1.0, low=0.0, doc="Muon's learning rate over AdamW's")
    learning_rate: float = setting(3e-4, low=0.0, high=1.0)
    final_learning_rate_fraction: float = setting(
        1.0, low=0.0, high=1.0, doc="end of the cosine, of the peak; 1: constant after the warm-up"
    )
    online_learning_rate: float = setting(1e-4, low=0.0, high=1.0, doc="constant, in the online stage")
    warmup_steps: int = setting(100, low=0, doc="linear warm-up, in update steps")
    weight_decay: float = setting(0.01, low=0.0, high=1.0, doc="on weight matrices only")
    gradient_clip: float = setting(1.0, low=0.0, doc="largest global gradient norm")
    world_share: float = setting(0.5, low=0.0, high=1.0, doc="first part of pretraining, without TD and CQL")
    world_weight: float = setting(1.0, low=0.0, doc="β of the world losses beside TD and CQL")
    conservative_weight: float = setting(0.1, low=0.0, doc="α of CQL, and of COMBO for each planned step")
    target_update_steps: int = setting(200, low=1, doc="between hard copies of the target head")
    bootstrap_steps: int = setting(1, low=1, high=256, doc="n of the n-step returns that values are learnt from")
    return_share: float = setting(
        0.0, low=0.0, high=1.0, doc="of a value's target, what its episode really received; 0: bootstrapped alone"
    )
    imagined_share: float = setting(
        0.0, low=0.0, high=0.9, doc="of pretraining's windows, those that end in planned, imagined steps; 0: none"
    )
    imagined_start: float = setting(0.3, low=0.0, high=1.0, doc="first part of pretraining, on data alone")
    imagined_steps: int = setting(2, low=1, high=64, doc="planned by beam search at the end of such a window")
    clone_weight: float = setting(
        0.0, low=0.0, high=1e3, doc="of imitating the data's actions beside the joint losses; 0: nothing imitates"
    )

    @property
    def imitates(self) -> bool:
        """Whether there is an output that learns the data's actions."""
        return self.objective == "clone" or (self.objective == "jowa" and self.clone_weight > 0.0)


@dataclass(frozen=True)
class WorldActionFamilyConfig:
    """What only this family knows: its frame tokenizer, its transformer, and how that learns."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: WorldActionConfig = field(default_factory=WorldActionConfig)
    training: WorldActionTrainingConfig = field(default_factory=WorldActionTrainingConfig)

    @property
    def context_length(self) -> int:
        """T, frames that the model sees."""
        return self.model.context_length


def validate(config: RunConfig) -> None:
    """Widths, a plan that fits into the model's window, values, imagined windows, and trained outputs alone.

    Raises:
        ConfigError: names the key.
    """
    _validate_sizes(config)
    _validate_imagination(config)
    if config.planner.support_threshold > 0.0 and not config.method.training.imitates:
        raise ConfigError(
            f"planner.support_threshold: {config.planner.support_threshold:g} needs an output that imitates the "
            f"data's actions: {NAME}.training.objective: jowa, {NAME}.training.clone_weight above 0"
        )
    _validate_objective(config)
    if config.planner.expects:
        select = config.planner.select
        raise ConfigError(f"planner.select: {select} is for continuous actions; did you mean argmax?")


def sizes(config: RunConfig) -> dict[str, Any]:
    """The keys that a checkpoint's weights are made for, with their values."""
    model, tokenizer = config.method.model, config.method.tokenizer
    kept = ("context_length", "width", "num_layers", "num_heads", "q_width", "num_q_heads", "num_atoms")
    return {
        "model": {name: getattr(model, name) for name in (*kept, "value_low", "value_high")},
        "tokenizer": {name: getattr(tokenizer, name) for name in ("vocabulary", "tokens_per_side")},
        "training": {"clone_weight": "above 0" if config.method.training.imitates else 0},
    }


def _validate_sizes(config: RunConfig) -> None:
    model = config.method.model
    if model.width % model.num_heads:
        raise ConfigError(
            f"{NAME}.model.width: {model.width} is not divisible by {NAME}.model.num_heads = {model.num_heads}"
        )
    longest = model.context_length - 2
    if config.planner.horizon > longest:
        raise ConfigError(
            f"planner.horizon: {config.planner.horizon} exceeds {longest}, all that "
            f"{NAME}.model.context_length = {model.context_length} leaves room for"
        )
    if not model.value_low < 0.0 < model.value_high:
        raise ConfigError(f"{NAME}.model.value_low: {model.value_low} < 0 < {NAME}.model.value_high does not hold")


def _validate_imagination(config: RunConfig) -> None:
    """Windows to imagine in."""
    training, model = config.method.training, config.method.model
    if training.imagined_share == 0.0:
        return
    if training.objective != "jowa":
        raise ConfigError(
            f"{NAME}.training.imagined_share: objective {training.objective} has no world model to imagine with"
        )
    if training.imagined_steps > model.context_length - 2:
        raise ConfigError(
            f"{NAME}.training.imagined_steps: {training.imagined_steps} exceeds {model.context_length - 2}, "
            f"all that {NAME}.model.context_length = {model.context_length} leaves room for"
        )
    windows = training.batch_size / max(1, config.learners)
    if not math.isclose(training.imagined_share * windows, round(training.imagined_share * windows)):
        raise ConfigError(
            f"{NAME}.training.imagined_share: {training.imagined_share:g} of a learner's {windows:g} windows is "
            "not whole"
        )


def _validate_objective(config: RunConfig) -> None:
    """Nothing may act from outputs that are not trained, neither in evaluation nor to explore."""
    training = config.method.training
    objective = training.objective
    untrained = () if objective == "jowa" and training.imitates else UNTRAINED_POLICIES[objective]
    for policy in config.evaluation.policies:
        if policy in untrained:
            cause = "clone_weight: 0" if objective == "jowa" else f"objective: {objective}"
            raise ConfigError(
                f"evaluation.policies: {policy} acts from outputs that {NAME}.training.{cause} does not train"
            )
    explorer = "q_greedy" if config.planner.horizon == 0 else "beam"
    if config.online.env_steps and explorer in untrained:
        raise ConfigError(
            f"online.env_steps: {config.online.env_steps} would be explored by {explorer}, from outputs that "
            f"{NAME}.training.objective: {objective} does not train; 0 leaves the online stage out"
        )
