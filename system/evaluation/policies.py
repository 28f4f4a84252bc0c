"""Policies by the names that configurations and summaries use, of whatever family."""

from system.config import PlannerConfig, RunConfig
from system.errors import ConfigError
from system.families.registry import Agent, family_of
from system.planning.acting import Policy
from system.types import TaskSpec


def make_policy(
    name: str, agent: Agent, task: TaskSpec, config: RunConfig, planner: PlannerConfig
) -> Policy:
    """The policy called `name`.

    Args:
        name: one of the family's.
        agent: in evaluation mode; not modified.
        task: what is played; of an agent of several games one of them.
        config: the run's configuration.
        planner: how to plan, target-return ratio and selection included.

    Raises:
        ConfigError: the family has no policy of that name.
    """
    family = family_of(config)
    if name not in family.policies():
        known = ", ".join(sorted(family.policies()))
        raise ConfigError(f"evaluation.policies: unknown policy {name!r}; known: {known}")
    policy: Policy = family.make_policy(name, agent, task, config, planner)
    return policy


def planner_policy_name(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated."""
    return family_of(config).planner_policy(config)
