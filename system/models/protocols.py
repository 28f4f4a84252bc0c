"""What a planner may ask of a model, values included: nothing else is reachable from `planning/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped

from system.decisions import Context, TokenContext


@dataclass(frozen=True)
class Imagination:
    """What a model expects of candidate plans.

    Attributes:
        observations: o_t … o_{t+H−1}; the first is the true current observation.
        rewards: r_t … r_{t+H−1}, in the task's units.
        values: g_t … g_{t+H−1}: the value of being at step n and executing that step's planned action
            (so r_{t+n} is included), in discounted return.
    """

    observations: Float[torch.Tensor, "B N H S"]
    rewards: Float[torch.Tensor, "B N H"]
    values: Float[torch.Tensor, "B N H"]


class PlanningModel(Protocol):
    """A model that proposes action sequences and imagines what they lead to.

    Attributes:
        discount: γ of its values; utilities discount imagined rewards by the same.
    """

    discount: float

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """Draws N candidate sequences of H actions, in [-1, 1] or int64, for every environment."""
        ...

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """Predicts observations, rewards and values along every candidate."""
        ...


class PathModel(Protocol):
    """A model that infers the states between here and a goal, and the actions that connect states.

    Attributes:
        typical_change: root mean square of what a step changes, by dimension; zeros where it is not known.
    """

    typical_change: Float[torch.Tensor, "S"]

    def infer_path(self, context: Context, ahead: int) -> Float[torch.Tensor, "B frames S"]:
        """The states from the current one, which stays as it is, to the goal, which stands `ahead` steps further.

        Args:
            context: with a goal; of its observations as many are read as there is room for beside the path.
            ahead: at least 1.
        """
        ...

    def infer_actions(
        self, context: Context, path: Float[torch.Tensor, "B frames S"]
    ) -> Shaped[torch.Tensor, "B steps *action"]:
        """The actions that lead from each state of a path to the next one, in [-1, 1] or int64."""
        ...


class DiscretePlanningModel(Protocol):
    """A model of a game with A discrete actions, stepped through together in many imagined futures.

    A carry is whatever the model needs in order to go on from M imagined states; planners only hand it back.
    Stepping leaves the old carry as it was, so that several futures can go on from the same state.

    Attributes:
        discount: γ of its values; planners discount imagined rewards by the same.
    """

    discount: float

    def begin(self, context: TokenContext) -> tuple[Any, Float[torch.Tensor, "B A"]]:
        """A carry of one row for each environment, and Q at its current state; −inf at invalid actions."""
        ...

    def step(
        self, carry: Any, parents: Int[torch.Tensor, "M"], actions: Int[torch.Tensor, "M"]
    ) -> tuple[Any, Float[torch.Tensor, "M"], Bool[torch.Tensor, "M"], Float[torch.Tensor, "M A"]]:
        """Acts once in M futures.

        Args:
            carry: of the states to go on from.
            parents: which row of the old carry each row of the new one continues, in any order and number.
            actions: what is done there.

        Returns:
            The new carry; the reward r received for each action; whether it ended the episode; Q at the state
            it led to, −inf at invalid actions and without meaning where the episode ended.
        """
        ...

    def observations(self, carry: Any) -> Shaped[torch.Tensor, "M *observation"]:
        """The state that each row of a carry stands at, in the model's own form (a frame's tokens)."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a model expects of one step of M imagined futures in each of B environments.

    Attributes:
        states: that the futures stand at then.
        rewards: received, in the task's units.
        continues: how likely the episode goes on, in [0, 1].
        disagreement: of the members of an ensemble: 1 where they differ as much as each expects to be off;
            zeros of a model without members.
    """

    states: Float[torch.Tensor, "B M D"]
    rewards: Float[torch.Tensor, "B M"]
    continues: Float[torch.Tensor, "B M"]
    disagreement: Float[torch.Tensor, "B M"]


class DifferentiableModel(Protocol):
    """A policy within a world, s′ = f(s, a, ε): what is imagined has a gradient in whatever decided the actions.

    A state is what the model goes on from, D numbers; planners only hand it back. Randomness is ε alone, standard
    normal, so that futures with the same ε are the same function of the actions.

    Attributes:
        discount: γ of its values.
        noise_dim: numbers of ε in one step.
        num_members: of an ensemble, of which member m mod `num_members` imagines future m; 1: no ensemble.
    """

    discount: float
    noise_dim: int
    num_members: int

    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Those of the policy, by name."""
        ...

    def begin(self, context: Context) -> Float[torch.Tensor, "B D"]:
        """The state that each environment is in."""
        ...

    def act(
        self, parameters: Mapping[str, torch.Tensor], states: Float[torch.Tensor, "M D"]
    ) -> Float[torch.Tensor, "M A"]:
        """What the policy does with these parameters, in [-1, 1]; can be mapped by `torch.func.vmap`."""
        ...

    def step(
        self,
        states: Float[torch.Tensor, "B M D"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
    ) -> Outcome:
        """Acts once in every future; those of all environments share their noise."""
        ...

    def values(
        self, states: Float[torch.Tensor, "B M D"], actions: Float[torch.Tensor, "B M A"]
    ) -> Float[torch.Tensor, "E B M"]:
        """Q of each critic, in discounted return."""
        ...

    def observations(self, states: Float[torch.Tensor, "*batch D"]) -> Float[torch.Tensor, "*batch S"]:
        """What is observed in each state, in the task's units."""
        ...
