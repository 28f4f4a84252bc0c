"""Configurations with another section of their family's."""

from dataclasses import replace
from typing import Any

from system.config import RunConfig
from system.families.imagination.config import ImaginationConfig
from system.families.masked_trajectory.config import MaskedTrajectoryConfig
from system.families.world_action.config import WorldActionFamilyConfig

OWN_SECTIONS = ("tokenizer", "model", "world", "training", "critic", "augmentation")


def with_method(config: RunConfig, **sections: Any) -> RunConfig:
    """The configuration with some of the family's own sections replaced.

    Args:
        config: of any family.
        sections: `model`, `training`, … whole.
    """
    return replace(config, method=replace(config.method, **sections))


def masked_config(**keys: Any) -> RunConfig:
    """Of the masked trajectory family: `model`, `training` and `critic` are its own, the rest is shared."""
    return _config("masked_trajectory", MaskedTrajectoryConfig, keys)


def world_config(**keys: Any) -> RunConfig:
    """Of the world-action family: `tokenizer`, `model` and `training` are its own sections, the rest is shared."""
    return _config("world_action", WorldActionFamilyConfig, keys)


def imagination_config(**keys: Any) -> RunConfig:
    """Of the imagination family: `model`, `world`, `critic`, `augmentation` and `training` are its own."""
    return _config("imagination", ImaginationConfig, keys)


def nest(tree: dict[str, Any]) -> dict[str, Any]:
    """A configuration's tree with the family's own sections where they belong, under its name."""
    own = {name: value for name, value in tree.items() if name in OWN_SECTIONS}
    rest = {name: value for name, value in tree.items() if name not in OWN_SECTIONS}
    name = rest.get("family", "masked_trajectory")
    return {**rest, name: {**own, **rest.get(name, {})}}


def _config(family: str, section: type, keys: dict[str, Any]) -> RunConfig:
    own = {name: keys.pop(name) for name in OWN_SECTIONS if name in keys}
    return RunConfig(family=family, method=section(**own), **keys)
