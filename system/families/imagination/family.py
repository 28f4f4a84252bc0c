"""Registers the imagination family: IPD on a probabilistic ensemble."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.config import PlannerConfig, RunConfig
from system.config.registry import PLANNERS
from system.families.imagination.config import NAME, ImaginationConfig, foundation_steps, sizes, validate
from system.families.registry import Family, Imagining, Learner, PolicyTraits, register_family
from system.planning import registry as _planners  # noqa: F401  its planners are to be known by then

POLICY_NAMES = {"forward_mpc": "imagined_mpc"}
"""Of planners whose policy is not called `imagined_` and their name."""


def _planned() -> dict[str, str]:
    """Policy → planner, of the planners that ask for proposals."""
    return {
        POLICY_NAMES.get(planner.name, f"imagined_{planner.name}"): planner.name
        for planner in PLANNERS.values()
        if planner.asks == "proposals"
    }


def policies() -> Mapping[str, PolicyTraits]:
    """Every way of acting, registered planners that ask for proposals among them."""
    return {
        "random": PolicyTraits(),
        "quasi_optimal": PolicyTraits(is_rival=True),
        "ipd": PolicyTraits(is_rival=True, draws=True),
        "decision_transformer": PolicyTraits(conditioned=True),
        **{name: PolicyTraits(plans=True, unplanned="quasi_optimal") for name in _planned()},
    }


def planner_policy(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated, or the policy that is distilled of it."""
    name = config.planner.name
    if config.method.training.judged_by == "distilled":
        return "ipd"
    return "quasi_optimal" if config.planner.horizon == 0 else POLICY_NAMES.get(name, f"imagined_{name}")


def _make_policy(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.imagination.policies import make_policy

    return make_policy(name, agent, task, config, planner, _planned().get(name, ""))


def _build(task: Any, config: RunConfig) -> Any:
    from system.families.imagination.agent import ImaginationAgent

    return ImaginationAgent(task, config)


def _learn(agent: Any, config: RunConfig, **group: Any) -> Learner:
    from system.families.imagination.learner import ImaginationLearner

    return ImaginationLearner(agent, config, **group)


def _diagnose(agent: Any, data: Any, config: RunConfig, folder: Path, stage: str) -> Mapping[str, Any]:
    from system.families.imagination.diagnostics import diagnose

    return diagnose(agent, data, config, folder, stage)


def _one_pass(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.imagination.one_pass import one_pass

    return one_pass(name, agent, planner)


def _begin(agent: Any, data: Any, config: RunConfig) -> Mapping[str, Any]:
    from system.families.imagination.augmentation import begin

    return begin(agent, data, config)


def _imagine(agent: Any, store: Any, episodes: Any, config: RunConfig, seed: tuple[str | int, ...]) -> Any:
    from system.families.imagination.imagining import imagine

    return imagine(agent, store, episodes, config, seed)


def _take_in(state: Any, agent: Any, store: Any, rollouts: Any, config: RunConfig) -> Mapping[str, Any]:
    from system.families.imagination.augmentation import take_in

    return take_in(state, agent, store, rollouts, config)


register_family(
    Family(
        name=NAME,
        section=ImaginationConfig,
        planner="forward_mpc",
        asks="proposals",
        evaluated=("random", "quasi_optimal", "imagined_mpc", "ipd", "decision_transformer"),
        validate=validate,
        serves=lambda task: task.frame_shape is None and not task.is_discrete,
        policies=policies,
        planner_policy=planner_policy,
        make_policy=_make_policy,
        sizes=sizes,
        build=_build,
        found=lambda agent, statistics: agent.set_statistics(statistics),
        learn=_learn,
        batch_sizes=lambda config: {
            f"{NAME}.training.batch_size": config.method.training.batch_size,
            f"{NAME}.critic.batch_size": config.method.critic.batch_size,
        },
        segments_per_step=lambda config: config.method.training.batch_size,
        transition_batches=lambda config, stage: (
            config.method.critic.updates_per_step,
            config.method.critic.batch_size,
        ),
        windows="ending",
        refresh=lambda agent, replay, visible: agent.raise_target_returns(replay.target_returns(visible)),
        diagnose=_diagnose,
        one_pass=_one_pass,
        compile=lambda agent: agent.model.compile(),
        imagining=Imagining(
            update_step=lambda config: foundation_steps(config) if config.method.augmentation.ratio else None,
            every_env_steps=lambda config: (
                config.method.augmentation.refresh_every_env_steps if config.method.augmentation.ratio else None
            ),
            refreshed_share=lambda config: config.method.augmentation.refreshed_share,
            begin=_begin,
            imagine=_imagine,
            take_in=_take_in,
        ),
    )
)
