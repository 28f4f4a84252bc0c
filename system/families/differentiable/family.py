"""Registers the differentiable family: gradient MPC on a differentiable world model, with ReBRAC's policy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.config import PlannerConfig, RunConfig
from system.config.registry import PLANNERS
from system.families.differentiable.config import NAME, DifferentiableConfig, sizes, validate
from system.families.registry import Family, Learner, PolicyTraits, register_family
from system.planning import registry as _planners  # noqa: F401  its planners are to be known by then


def policies() -> Mapping[str, PolicyTraits]:
    """Every way of acting; each registered planner that asks for gradients is one, by its own name."""
    planned = [planner.name for planner in PLANNERS.values() if planner.asks == "gradients"]
    return {
        "random": PolicyTraits(),
        "rebrac": PolicyTraits(is_rival=True),
        **{name: PolicyTraits(plans=True) for name in planned},
    }


def planner_policy(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated."""
    return config.planner.name if config.planner.horizon else "rebrac"


def _make_policy(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.differentiable.policies import make_policy

    return make_policy(name, agent, task, config, planner)


def _build(task: Any, config: RunConfig) -> Any:
    from system.families.differentiable.agent import WorldModelAgent

    return WorldModelAgent(task, config)


def _learn(agent: Any, config: RunConfig, **group: Any) -> Learner:
    from system.families.differentiable.learner import WorldModelLearner

    return WorldModelLearner(agent, config, **group)


def _diagnose(agent: Any, data: Any, config: RunConfig, folder: Path, stage: str) -> Mapping[str, Any]:
    from system.families.differentiable.diagnostics import diagnose

    return diagnose(agent, data, config, folder, stage)


def _one_pass(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.differentiable.one_pass import LearntPolicyProgram

    return LearntPolicyProgram(agent) if name == "rebrac" else None


register_family(
    Family(
        name=NAME,
        section=DifferentiableConfig,
        planner="gradient_mpc",
        asks="gradients",
        evaluated=("random", "rebrac", "gradient_mpc"),
        validate=validate,
        serves=lambda task: task.frame_shape is None and not task.is_discrete,
        policies=policies,
        planner_policy=planner_policy,
        make_policy=_make_policy,
        sizes=sizes,
        build=_build,
        found=lambda agent, statistics: agent.set_statistics(statistics),
        learn=_learn,
        batch_sizes=lambda config: {f"{NAME}.critic.batch_size": config.method.critic.batch_size},
        segments_per_step=lambda config: 0,
        transition_batches=lambda config, stage: (
            config.method.critic.updates_per_step,
            config.method.critic.batch_size,
        ),
        windows="ending",
        diagnose=_diagnose,
        one_pass=_one_pass,
    )
)
