"""Backward MPC: a path to a goal is inferred, then the actions that walk it, and the first one is executed.

The goal stands in the window's last state, h steps ahead of the current one:

    ŝ_{t+1} … ŝ_{t+h} = PI(s_{≤t}, a_{<t}, goal)        what of the goal is named stays as it is
    â_t … â_{t+h−1}   = ID(s_{≤t}, a_{<t}, ŝ_{t+1} … ŝ_{t+h})

With `planner.goal_arrival: receding` it always stands h = `planner.horizon` steps ahead; with `deadline` it stands
where it is due, once that is fewer than h steps away: environments whose goals are due at different times are
asked in groups.

Of a goal that lies further away than states do that are so few steps apart, a model has nothing to go by. With
`planner.goal_speed` k > 0 it is shown nearer on the same line: the named dimensions' differences are scaled down
together until none exceeds k · h times the dimension's typical change.

Deviations from the paper's public code, with the reason:

- every true state stays in the window, the current one included: the code's second pass reads reconstructions;
- all states between are inferred, the next one too: the code keeps a raw waypoint there;
- the goal may name some dimensions alone; the rest of its state is inferred with the path.

Source: M³PC section IV, "Backward M³PC for Goal Reaching".
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float

from system.config import PlannerConfig
from system.decisions import Context, GoalStates, Plan
from system.errors import PlannerError
from system.models.protocols import PathModel


@torch.no_grad()
def backward_mpc(
    model: PathModel,
    context: Context,
    *,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """Plans one decision for each of B environments.

    Args:
        model: infers paths, and the actions that walk them.
        context: the environments' recent past, T − 1 observations at least, and their goals.
        config: horizon h ≥ 1 and `goal_arrival`.
        generator: nothing is drawn from it.

    Returns:
        A plan of a single candidate of utility 0; its imagined observations are the path, the true observation
        first. Where the goal is due earlier than in h steps the last of them is repeated.

    Raises:
        PlannerError: horizon 0, there is no goal, or a goal or what was inferred is not finite.
    """
    goal = context.goal
    if config.horizon < 1:
        raise PlannerError("backward_mpc needs planner.horizon >= 1; 0 means acting without a plan")
    if goal is None:
        raise PlannerError("backward_mpc plans a path to a goal, and there is none; o2o reach gives goals")
    _check_goal(goal)
    ahead = torch.full_like(goal.steps_left, config.horizon)
    if config.goal_arrival == "deadline":
        ahead = torch.minimum(ahead, goal.steps_left.clamp_min(1))
    current = context.observations[:, -1]
    first_actions = context.actions.new_zeros(len(current), *context.actions.shape[2:])
    paths = current[:, None].repeat(1, config.horizon + 1, 1)
    for steps in ahead.unique().tolist():
        rows = ahead == steps
        shown = _approached(goal, current, steps * config.goal_speed * model.typical_change)
        asked = _rows(context, shown, rows)
        path = model.infer_path(asked, steps)
        paths[rows] = torch.cat([path, path[:, -1:].expand(-1, config.horizon - steps, -1)], dim=1)
        first_actions[rows] = model.infer_actions(asked, path)[:, 0]
    if not bool(torch.isfinite(first_actions).all()):
        raise PlannerError("the model inferred actions that are not finite")
    alone = current.new_ones(len(current), 1)
    return Plan(
        action=first_actions.clamp(-1.0, 1.0) if first_actions.is_floating_point() else first_actions,
        first_actions=first_actions[:, None],
        probabilities=alone,
        utilities=torch.zeros_like(alone),
        selected=torch.zeros(len(current), dtype=torch.int64, device=current.device),
        imagined_observations=paths[:, None],
    )


def _check_goal(goal: GoalStates) -> None:
    finite = torch.isfinite(goal.values) | ~goal.named
    if not bool(finite.all()):
        row, dimension = (~finite).nonzero()[0].tolist()
        raise PlannerError(f"goal of environment {row}: dimension {dimension} is not finite")


def _approached(
    goal: GoalStates, current: Float[torch.Tensor, "B S"], most: Float[torch.Tensor, "S"]
) -> GoalStates:
    """Goals on the same line, with no named dimension further from the current state than `most`; 0: no limit."""
    limited = goal.named & (most > 0.0)
    away = torch.where(goal.named, goal.values, current) - current
    excess = torch.where(limited, away.abs() / most.clamp_min(1e-12), 0.0).amax(dim=1, keepdim=True)
    return replace(goal, values=current + away / excess.clamp_min(1.0))


def _rows(context: Context, goal: GoalStates, rows: Bool[torch.Tensor, "B"]) -> Context:
    """The environments whose goals stand equally far ahead."""
    return replace(
        context,
        observations=context.observations[rows],
        actions=context.actions[rows],
        valid=context.valid[rows],
        target_return=context.target_return[rows],
        goal=GoalStates(goal.values[rows], goal.named[rows], goal.steps_left[rows]),
    )
