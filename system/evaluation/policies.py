"""Policies by the names that configurations and summaries use, of whatever family."""

from dataclasses import replace

from system.config import PlannerConfig, RunConfig
from system.errors import ConfigError
from system.families.registry import Agent, family_of, policy_traits
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


def follower_name(config: RunConfig, policy: str | None = None) -> str | None:
    """The policy that goes on after a candidate's first action.

    Args:
        config: the run's.
        policy: whose candidates they are; None: the configured planner's.

    Returns:
        What the policy's candidates are plans of; else what the configured planner becomes at horizon 0; else the
        family's first policy that planners are compared with; None where the family has none of these.
    """
    family = family_of(config)
    unplanned = policy_traits(policy).unplanned if policy else ""
    becomes = family.planner_policy(replace(config, planner=replace(config.planner, horizon=0)))
    rivals = [name for name, traits in family.policies().items() if traits.is_rival]
    followers = (name for name in (unplanned, becomes, *rivals) if name and not policy_traits(name).plans)
    return next(followers, None)
