"""Registers the masked trajectory family: M³PC on a masked trajectory transformer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.config import PlannerConfig, RunConfig
from system.config.registry import PLANNERS
from system.families.masked_trajectory.config import (
    CHANGED,
    NAME,
    MaskedTrajectoryConfig,
    critic_updates,
    sizes,
    validate,
)
from system.families.registry import Capability, Family, Learner, PolicyTraits, register_family
from system.planning import registry as _planners  # noqa: F401  its planners are to be known by then

GUIDANCE = {"return": "m", "critic": "q"}
PROPOSALS = {"model": "", "actor": "a"}
"""What endings of a planner's policies are made of, by `planner.proposals` and `planner.guidance`."""


def policies() -> Mapping[str, PolicyTraits]:
    """Every way of acting; each registered planner that asks for proposals has four, by proposals and guidance;
    of each that asks for gradients there is one, which adapts the actor by the critics."""
    planned = PolicyTraits(plans=True, conditioned=True)
    endings = {f"{origin}{guide}": origin for origin in PROPOSALS.values() for guide in GUIDANCE.values()}
    return {
        "random": PolicyTraits(),
        "rcbc_mode": PolicyTraits(is_rival=True, conditioned=True),
        "rcbc_mean": PolicyTraits(is_rival=True, conditioned=True, draws=True),
        "q_only": planned,
        **{
            f"{planner.name}_{ending}": PolicyTraits(plans=True, unplanned="iql") if origin else planned
            for planner in PLANNERS.values()
            if planner.asks == "proposals"
            for ending, origin in endings.items()
        },
        **{
            f"{planner.name}_aq": PolicyTraits(plans=True, unplanned="iql")
            for planner in PLANNERS.values()
            if planner.asks == "gradients"
        },
        "iql": PolicyTraits(),
        "bc_mode": PolicyTraits(),
        "two_stages": PolicyTraits(conditioned=True),
        "backward_mpc": PolicyTraits(reaches=True),
        "goal_mask": PolicyTraits(reaches=True),
    }


def planner_policy(config: RunConfig) -> str:
    """The name under which the configured planner is evaluated."""
    planner = config.planner
    if planner.name == "backward_mpc":
        return planner.name
    if planner.proposals == "actor" and (planner.horizon == 0 or planner.guidance == "none"):
        return "iql"
    if planner.horizon == 0:
        return "rcbc_mode"
    if planner.guidance == "none":
        return "rcbc_mean"
    first_alone = planner.horizon == 1 and planner.guidance == "critic" and planner.proposals == "model"
    if first_alone and planner.name == "forward_mpc":
        return "q_only"
    return f"{planner.name}_{PROPOSALS[planner.proposals]}{GUIDANCE[planner.guidance]}"


def _make_policy(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.masked_trajectory.policies import make_policy

    return make_policy(name, agent, task, config, planner)


def _build(task: Any, config: RunConfig) -> Any:
    from system.families.masked_trajectory.agent import TrajectoryAgent

    return TrajectoryAgent(task, config)


def _learn(agent: Any, config: RunConfig, **group: Any) -> Learner:
    from system.families.masked_trajectory.learner import M3PCLearner

    return M3PCLearner(agent, config, **group)


def _diagnose(agent: Any, data: Any, config: RunConfig, folder: Path, stage: str) -> Mapping[str, Any]:
    from system.families.masked_trajectory.diagnostics import diagnose

    return diagnose(agent, data, config, folder, stage)


def _measure(name: str, agent: Any, data: Any, config: RunConfig) -> Any:
    from system.families.masked_trajectory.capabilities import measure_capability

    return measure_capability(name, agent, data, config)


CAPABILITIES = {
    "bc": Capability("behaviour cloning", policy="bc_mode"),
    "rcbc": Capability("return-conditioned behaviour cloning", policy="rcbc_mode"),
    "id": Capability("inverse dynamics: the actions between states", measure=_measure),
    "fd": Capability("forward dynamics: the states that actions lead to", measure=_measure),
    "rp": Capability("reward and return of a state and an action", measure=_measure),
    "pi": Capability("path inference: the states on the way to another", measure=_measure),
}


def _one_pass(name: str, agent: Any, task: Any, config: RunConfig, planner: PlannerConfig) -> Any:
    from system.families.masked_trajectory.one_pass import one_pass

    return one_pass(name, agent, planner)


register_family(
    Family(
        name=NAME,
        section=MaskedTrajectoryConfig,
        planner="forward_mpc",
        asks="proposals",
        also_asks=("paths",),
        evaluated=(
            *("random", "rcbc_mode", "rcbc_mean", "q_only", "forward_mpc_m", "forward_mpc_q"),
            *("iql", "forward_mpc_am"),
        ),
        validate=validate,
        serves=lambda task: task.frame_shape is None,
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
            critic_updates(config, stage),
            config.method.critic.batch_size,
        ),
        windows="ending",
        refresh=lambda agent, replay, visible: agent.raise_target_returns(replay.target_returns(visible)),
        diagnose=_diagnose,
        one_pass=_one_pass,
        capabilities=CAPABILITIES,
        incomplete_data=True,
        encode=lambda agent, observations, actions: agent.model.represent(observations, actions),
        compile=lambda agent: agent.model.compile(),
        former={"model": f"{NAME}.model", "trajectory": f"{NAME}.training", "critic": f"{NAME}.critic"},
        changed=CHANGED,
        former_name="m3pc",
    )
)
