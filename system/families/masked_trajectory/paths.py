"""The trajectory model as a model of paths: a mask infers the states to a goal, another the actions between them.

Source: M³PC section IV, "Backward M³PC for Goal Reaching" and Fig. 3(b).
"""

import torch
from jaxtyping import Float, Shaped

from system.decisions import Context
from system.errors import PlannerError
from system.families.masked_trajectory.mask_layout import inference_layout
from system.families.masked_trajectory.masks import ACTIONS, STATES
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens


class GoalPaths:
    """What backward MPC asks of the trajectory model.

    Args:
        model: of T steps, of which the last one holds the goal.
        typical_change: as of `PathModel`.
    """

    def __init__(self, model: MaskedTrajectoryModel, typical_change: Float[torch.Tensor, "S"]) -> None:
        self.model = model
        self.typical_change = typical_change

    def infer_path(self, context: Context, ahead: int) -> Float[torch.Tensor, "B frames S"]:
        """The states to the goal: what of it is named stays as it is, and so does the current state."""
        assert context.goal is not None
        current, tokens = goal_window(self.model, context, ahead)
        length = self.model.config.context_length
        layout = inference_layout("path_inference", length, current, tokens.states.device)
        inferred = self.model.reconstruct(tokens, layout, first_step=current + 1, modalities=(STATES,)).states
        goal = torch.where(context.goal.named, context.goal.values, inferred[:, -1])
        return torch.cat([context.observations[:, -1:], inferred[:, :-1], goal[:, None]], dim=1)

    def infer_actions(
        self, context: Context, path: Float[torch.Tensor, "B frames S"]
    ) -> Shaped[torch.Tensor, "B steps *action"]:
        """Modes of the actions that connect the states of a path."""
        current, tokens = _window(self.model, context, path[:, 1:])
        length = self.model.config.context_length
        layout = inference_layout("inverse_dynamics", length, current, tokens.states.device)
        inferred = self.model.reconstruct(tokens, layout, first_step=current, modalities=(ACTIONS,)).actions
        return inferred.mode()[:, :-1]


class StraightToGoal(GoalPaths):
    """The same path, which the actions take no notice of: they are read off the mask that shows the goal alone.

    Source: the single goal mask that M³PC compares with; MTM appendix, "goal reaching".
    """

    def infer_actions(
        self, context: Context, path: Float[torch.Tensor, "B frames S"]
    ) -> Shaped[torch.Tensor, "B steps *action"]:
        """Modes of the actions that the path inference mask hides."""
        ahead = path.shape[1] - 1
        current, tokens = goal_window(self.model, context, ahead)
        length = self.model.config.context_length
        layout = inference_layout("path_inference", length, current, tokens.states.device)
        inferred = self.model.reconstruct(tokens, layout, first_step=current, modalities=(ACTIONS,)).actions
        return inferred.mode()[:, :-1]


def goal_window(model: MaskedTrajectoryModel, context: Context, ahead: int) -> tuple[int, Tokens]:
    """A window that ends with the goal: the place of the current step in it, and the tokens.

    Args:
        model: whose window it is.
        context: with a goal.
        ahead: steps from the current one to the goal.

    Raises:
        PlannerError: there is no room for so many.
    """
    goal = context.goal
    assert goal is not None
    future = context.observations.new_zeros(len(goal.values), ahead, goal.values.shape[-1])
    future[:, -1] = torch.where(goal.named, goal.values, 0.0)
    current, tokens = _window(model, context, future)
    if bool(goal.named.all()):
        return current, tokens
    known = torch.ones_like(tokens.states, dtype=torch.bool)
    known[:, -1] = goal.named
    return current, Tokens(**{**vars(tokens), "states_known": known})


def _window(
    model: MaskedTrajectoryModel, context: Context, future: Float[torch.Tensor, "B ahead S"]
) -> tuple[int, Tokens]:
    """The newest steps that there is room for before given future states."""
    length, ahead = model.config.context_length, future.shape[1]
    current = length - 1 - ahead
    if current < 0:
        raise PlannerError(f"planner.horizon: a goal {ahead} steps ahead does not fit into a window of {length}")
    if context.observations.shape[1] <= current:
        raise PlannerError(f"{context.observations.shape[1]} observations for a window that reads {current + 1}")
    batch = len(future)
    past = slice(context.observations.shape[1] - current - 1, None)
    actions = context.actions[:, context.actions.shape[1] - current :]
    padding = actions.new_zeros(batch, ahead + 1, *actions.shape[2:])
    return current, Tokens(
        states=torch.cat([context.observations[:, past], future], dim=1),
        returns=context.observations.new_zeros(batch, length),
        actions=torch.cat([actions, padding], dim=1),
        rewards=context.observations.new_zeros(batch, length),
        valid=torch.cat([context.valid[:, past], context.valid.new_ones(batch, ahead)], dim=1),
    )
