"""The policies of each algorithm, by the names that configurations and summaries use."""

from collections.abc import Mapping
from typing import Any

from system.config import PlannerConfig, RunConfig
from system.errors import ConfigError
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.policies import TRAJECTORY_POLICIES
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.policies import FRAME_POLICIES
from system.planning.acting import Policy
from system.types import TaskSpec

Agent = TrajectoryAgent | WorldActionAgent

POLICIES: Mapping[str, Mapping[str, Any]] = {"m3pc": TRAJECTORY_POLICIES, "jowa": FRAME_POLICIES}

CONDITIONED_ON_RETURN = frozenset({"rcbc_mode", "rcbc_mean", "q_only", "forward_mpc_m", "forward_mpc_q"})

_GUIDED_BY = {"return": "forward_mpc_m", "critic": "forward_mpc_q", "none": "rcbc_mean"}


def make_policy(
    name: str, agent: Agent, task: TaskSpec, config: RunConfig, planner: PlannerConfig
) -> Policy:
    """The policy called `name`.

    Args:
        name: a key of the algorithm's `POLICIES`.
        agent: in evaluation mode; not modified.
        task: what is played; of an agent of several games one of them.
        config: the run's configuration.
        planner: how to plan, target-return ratio and selection included.

    Raises:
        ConfigError: the algorithm has no policy of that name.
    """
    known = POLICIES[config.algorithm]
    if name not in known:
        raise ConfigError(f"evaluation.policies: unknown policy {name!r}; known: {', '.join(sorted(known))}")
    policy: Policy = known[name](agent, task, config, planner)
    return policy


def planner_policy_name(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated."""
    planner = config.planner
    if config.algorithm == "jowa":
        return "q_greedy" if planner.horizon == 0 else "beam"
    if planner.horizon == 0:
        return "rcbc_mode"
    if planner.horizon == 1 and planner.guidance == "critic":
        return "q_only"
    return _GUIDED_BY[planner.guidance]
