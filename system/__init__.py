"""Offline-to-online reinforcement learning that plans with pretrained sequence models.

Importing it is light: each name is loaded when it is first used. `docs/python.md` shows all of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from system import families as _families  # noqa: F401  registers the methods; imports no model
from system.shape_annotations import stand_in_for_jaxtyping

if TYPE_CHECKING:
    from system.api import TrainedRun, evaluate, load_config, load_dataset, train
    from system.config import PlannerConfig, RunConfig
    from system.data.raw_episode import RawEpisode
    from system.data.sources.protocol import ReadOptions, Source, SourceFacts, register_source
    from system.decisions import Context, Plan, TokenContext
    from system.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        PlannerError,
        RequestError,
        ShapeError,
        SystemFailure,
    )
    from system.families.registry import Family, PolicyTraits, register_family
    from system.models.protocols import DiscretePlanningModel, Imagination, PlanningModel
    from system.planning.beam_search import beam_search
    from system.planning.forward_mpc import forward_mpc
    from system.planning.registry import Planner, register_planner
    from system.planning.utility import proposal_probabilities, td_lambda_utility
    from system.runs.exporting import ExportedPolicy, export_policy
    from system.runs.loaded_agent import LoadedAgent, load_agent
    from system.types import Episode, TaskSpec

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Context",
    "DataError",
    "DiscretePlanningModel",
    "Episode",
    "ExportedPolicy",
    "Family",
    "Imagination",
    "LoadedAgent",
    "Plan",
    "Planner",
    "PlannerConfig",
    "PlannerError",
    "PlanningModel",
    "PolicyTraits",
    "RawEpisode",
    "ReadOptions",
    "RequestError",
    "RunConfig",
    "ShapeError",
    "Source",
    "SourceFacts",
    "SystemFailure",
    "TaskSpec",
    "TokenContext",
    "TrainedRun",
    "beam_search",
    "evaluate",
    "export_policy",
    "forward_mpc",
    "load_agent",
    "load_config",
    "load_dataset",
    "proposal_probabilities",
    "register_family",
    "register_planner",
    "register_source",
    "td_lambda_utility",
    "train",
]

_HOMES = {
    "system.api": ("TrainedRun", "evaluate", "load_config", "load_dataset", "train"),
    "system.config": ("PlannerConfig", "RunConfig"),
    "system.data.raw_episode": ("RawEpisode",),
    "system.data.sources.protocol": ("ReadOptions", "Source", "SourceFacts", "register_source"),
    "system.decisions": ("Context", "Plan", "TokenContext"),
    "system.errors": (
        *("CheckpointError", "ConfigError", "DataError", "PlannerError"),
        *("RequestError", "ShapeError", "SystemFailure"),
    ),
    "system.families.registry": ("Family", "PolicyTraits", "register_family"),
    "system.models.protocols": ("DiscretePlanningModel", "Imagination", "PlanningModel"),
    "system.planning.beam_search": ("beam_search",),
    "system.planning.forward_mpc": ("forward_mpc",),
    "system.planning.registry": ("Planner", "register_planner"),
    "system.planning.utility": ("proposal_probabilities", "td_lambda_utility"),
    "system.runs.exporting": ("ExportedPolicy", "export_policy"),
    "system.runs.loaded_agent": ("LoadedAgent", "load_agent"),
    "system.types": ("Episode", "TaskSpec"),
}
"""Where the names above live."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

stand_in_for_jaxtyping()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
