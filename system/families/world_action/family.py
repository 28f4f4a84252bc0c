"""Registers the world-action family: JOWA on the tokens of Atari frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.config import PlannerConfig, RunConfig
from system.config.registry import PLANNERS
from system.families.registry import Family, Learner, PolicyTraits, register_family
from system.families.world_action.config import NAME, WorldActionFamilyConfig, sizes, validate
from system.planning import registry as _planners  # noqa: F401  its planners are to be known by then

POLICY_NAMES = {"beam_search": "beam"}
"""Of planners whose policy is not called as they are."""


def policies() -> Mapping[str, PolicyTraits]:
    """Every way of acting, registered planners that step through a model among them."""
    return {
        "random": PolicyTraits(),
        "clone": PolicyTraits(is_rival=True),
        "clone_sampled": PolicyTraits(is_rival=True),
        "q_greedy": PolicyTraits(is_rival=True),
        **{
            POLICY_NAMES.get(planner.name, planner.name): PolicyTraits(plans=True)
            for planner in PLANNERS.values()
            if planner.asks == "steps"
        },
    }


def planner_policy(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated."""
    name = config.planner.name
    return "q_greedy" if config.planner.horizon == 0 else POLICY_NAMES.get(name, name)


def _make_policy(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.world_action.policies import make_policy

    return make_policy(name, agent, task, config, planner)


def _build(task: Any, config: RunConfig) -> Any:
    from system.families.world_action.agent import WorldActionAgent

    return WorldActionAgent(task, config)


def _learn(agent: Any, config: RunConfig, **group: Any) -> Learner:
    from system.families.world_action.learner import WorldActionLearner

    return WorldActionLearner(agent, config, **group)


def _prepare(data: Any, config: RunConfig, cache_folder: Path, **known: Any) -> Any:
    from system.families.world_action.tokens import tokenize

    return tokenize(data, config, cache_folder, **known)


def _diagnose(agent: Any, data: Any, config: RunConfig, folder: Path, stage: str) -> Mapping[str, Any]:
    from system.families.world_action.diagnostics import diagnose

    return diagnose(agent, data, config, folder, stage)


def _one_pass(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.world_action.one_pass import one_pass

    return one_pass(name, agent, task, planner)


register_family(
    Family(
        name=NAME,
        section=WorldActionFamilyConfig,
        planner="beam_search",
        asks="steps",
        evaluated=("random", "clone", "q_greedy", "beam"),
        validate=validate,
        serves=lambda task: task.frame_shape is not None and task.is_discrete,
        policies=policies,
        planner_policy=planner_policy,
        make_policy=_make_policy,
        sizes=sizes,
        build=_build,
        found=lambda agent, weights: agent.set_tokenizer(weights),
        learn=_learn,
        batch_sizes=lambda config: {f"{NAME}.training.batch_size": config.method.training.batch_size},
        segments_per_step=lambda config: config.method.training.batch_size,
        windows="touching",
        prepare=_prepare,
        diagnose=_diagnose,
        one_pass=_one_pass,
        compile=lambda agent: agent.model.compile(dynamic=True),
        learnt_by_updates=("agent.model.", "agent.target_head."),
        several_datasets=True,
        former={
            "tokenizer": f"{NAME}.tokenizer",
            "world": f"{NAME}.model",
            "jowa": f"{NAME}.training",
            "pretrain.tokenizer": f"{NAME}.tokenizer.start",
        },
        former_name="jowa",
    )
)
