"""The reference actor within the masked trajectory model, as what planners ask that ascend a return.

    state       the window without its last place: T − 1 observations, the actions between them, which are valid
    s′, r       of the forward-dynamics mask, the action taken twice: the plan that fills the window has two steps
    policy      the reference actor's mode; its parameters adapt
    values      Q of each critic

The trajectory model's predictions are means: futures do not differ by chance, and one of them is enough.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float

from system.decisions import Context
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.masks import REWARDS
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.models.protocols import Outcome


class ActorInWindow:
    """A `DifferentiableModel` of continuous actions.

    Args:
        agent: in evaluation mode; never changed.
        discount: γ.

    Attributes:
        length: T − 1, steps of a context.
    """

    noise_dim = 1
    num_members = 1

    def __init__(self, agent: TrajectoryAgent, discount: float) -> None:
        self.agent = agent
        self.discount = discount
        self.length = agent.model.config.context_length - 1
        observation, action = agent.task.observation_dim, agent.task.action_dim
        self._sizes = [self.length * observation, (self.length - 1) * action, self.length]

    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Of the actor."""
        return {name: value.detach() for name, value in self.agent.values.actor.named_parameters()}

    def begin(self, context: Context) -> Float[torch.Tensor, "B D"]:
        """The window, in one piece."""
        return _joined(context.observations, context.actions, context.valid)

    def act(
        self, parameters: Mapping[str, torch.Tensor], states: Float[torch.Tensor, "M D"]
    ) -> Float[torch.Tensor, "M A"]:
        """The mode of the actor with these parameters."""
        values = self.agent.values
        inputs = values.normalize(self.observations(states))[None]
        return torch.func.functional_call(values.actor, dict(parameters), (inputs,))[0].tanh()

    def step(
        self,
        states: Float[torch.Tensor, "B M D"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
    ) -> Outcome:
        """The mean that the trajectory model expects; it knows no end of an episode."""
        size = states.shape[:2]
        observations, past, valid = self._parts(states.flatten(0, 1))
        taken = actions.flatten(0, 1)
        context = Context(observations, past, valid, torch.zeros_like(taken[:, 0]))
        expected = imagine_plans(self.agent.model, context, taken[:, None, None].expand(-1, 1, 2, -1), (REWARDS,))
        following = torch.cat([observations[:, 1:], expected.states[:, 0, 1:]], 1)
        done = torch.cat([past, taken[:, None]], 1)[:, 1:]
        seen = torch.cat([valid[:, 1:], torch.ones_like(valid[:, :1])], 1)
        assert expected.rewards is not None, "asked for"
        rewards = expected.rewards[:, 0, 0].unflatten(0, size)
        return Outcome(
            _joined(following, done, seen).unflatten(0, size),
            rewards,
            torch.ones_like(rewards),
            torch.zeros_like(rewards),
        )

    def values(
        self, states: Float[torch.Tensor, "B M D"], actions: Float[torch.Tensor, "B M A"]
    ) -> Float[torch.Tensor, "E B M"]:
        """Q of each critic."""
        values = self.agent.values
        found = values.standardized_q(self.observations(states).flatten(0, 1), actions.flatten(0, 1))
        return values.return_mean + values.return_std * found.unflatten(1, actions.shape[:2])

    def observations(self, states: Float[torch.Tensor, "*batch D"]) -> Float[torch.Tensor, "*batch S"]:
        """The newest one of each window."""
        end = self._sizes[0]
        return states[..., end - self.agent.task.observation_dim : end]

    def _parts(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        observations, actions, valid = states.split(self._sizes, dim=-1)
        task = self.agent.task
        return (
            observations.unflatten(-1, (self.length, task.observation_dim)),
            actions.unflatten(-1, (self.length - 1, task.action_dim)),
            valid > 0.5,
        )


def _joined(observations: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.cat([observations.flatten(1), actions.flatten(1), valid.to(observations)], dim=-1)
