"""The planners by name. A new one is a file with a function, and one line here or a call of `register_planner`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from system.config.registry import PLANNERS

Asks = Literal["proposals", "steps", "gradients", "paths"]


@dataclass(frozen=True)
class Planner:
    """A way of choosing actions by looking ahead.

    Attributes:
        name: value of `planner.name`.
        asks: `proposals`: a model that proposes and imagines whole candidates
            (`system.models.protocols.PlanningModel`); `steps`: one that is stepped through discrete actions
            (`DiscretePlanningModel`); `gradients`: a policy within a world that returns can be ascended in
            (`DifferentiableModel`); `paths`: one that infers paths to goals (`PathModel`).
        load: gives the function `(model, context, *, config, generator) -> Plan`; called when it is first needed.
        ignores: keys of the section `planner` that make no difference to it.
    """

    name: str
    asks: Asks
    load: Callable[[], Callable[..., Any]]
    ignores: tuple[str, ...] = ()


def register_planner(planner: Planner) -> None:
    """Makes a planner known by its name, for configurations, sweeps and every family whose models it can ask."""
    PLANNERS[planner.name] = planner


def planner_named(name: str) -> Planner:
    """A registered planner.

    Args:
        name: that a checked configuration holds.
    """
    planner = PLANNERS[name]
    assert isinstance(planner, Planner)
    return planner


def _forward_mpc() -> Callable[..., Any]:
    from system.planning.forward_mpc import forward_mpc

    return forward_mpc


def _beam_search() -> Callable[..., Any]:
    from system.planning.beam_search import beam_search

    return beam_search


def _backward_mpc() -> Callable[..., Any]:
    from system.planning.backward_mpc import backward_mpc

    return backward_mpc


def _gradient_mpc() -> Callable[..., Any]:
    from system.planning.gradient_mpc import gradient_mpc

    return gradient_mpc


def _action_ascent() -> Callable[..., Any]:
    from system.planning.action_ascent import action_ascent

    return action_ascent


OF_GOALS = ("goal_arrival", "goal_speed")
UNREAD_BY_FORWARD_MPC = ("beam_width", "support_threshold", "imagine_without_choice", "ascent", *OF_GOALS)
UNREAD_BY_BEAM_SEARCH = (
    *("guidance", "proposals", "actor_spread", "num_candidates", "target_return_ratio", "ascent"),
    *OF_GOALS,
)
UNREAD_BY_BACKWARD_MPC = (
    *("guidance", "proposals", "actor_spread", "td_lambda", "temperature", "utility_scale", "num_candidates"),
    *("beam_width", "support_threshold", "imagine_without_choice", "target_return_ratio", "select", "ascent"),
)
UNREAD_BY_ASCENT = (
    *("guidance", "proposals", "actor_spread", "td_lambda", "temperature", "utility_scale", "num_candidates"),
    *("beam_width", "support_threshold", "imagine_without_choice", "precision", "target_return_ratio"),
    *OF_GOALS,
)

register_planner(Planner("forward_mpc", "proposals", _forward_mpc, UNREAD_BY_FORWARD_MPC))
register_planner(Planner("beam_search", "steps", _beam_search, UNREAD_BY_BEAM_SEARCH))
register_planner(Planner("backward_mpc", "paths", _backward_mpc, UNREAD_BY_BACKWARD_MPC))
register_planner(Planner("gradient_mpc", "gradients", _gradient_mpc, UNREAD_BY_ASCENT))
register_planner(Planner("action_ascent", "gradients", _action_ascent, UNREAD_BY_ASCENT))
