"""Gradient MPC the plain way, to compare with: one future after another, in a copy of the module."""

import copy

import torch

from system.config import PlannerConfig
from system.families.differentiable.agent import WorldModelAgent


def plain_gradient_mpc(
    agent: WorldModelAgent, observation: torch.Tensor, noise: torch.Tensor, config: PlannerConfig, discount: float
) -> torch.Tensor:
    """The action of one environment after `ascent.steps` steps, without safeguards.

    Args:
        agent: of a generative world.
        observation: [S].
        noise: [H, M, S], ε.
        config: η, E and k of the critics.
        discount: γ.
    """
    adapted = copy.deepcopy(agent)
    for _ in range(config.ascent.steps):
        total = torch.zeros(())
        for future in range(noise.shape[1]):
            state, alive, factor = observation[None, None], torch.ones(()), 1.0
            for step in range(config.horizon):
                action = adapted.values.act(state)
                outcome = adapted.model.imagine(state, action, noise[step, future, None])
                total = total + factor * alive * outcome.rewards.squeeze()
                alive, factor, state = alive * outcome.continues.squeeze(), factor * discount, outcome.states
            values = adapted.values.q(state, adapted.values.act(state)).flatten()
            spread = (values - values.mean()).square().mean().sqrt()
            total = total + factor * alive * (values.mean() - config.ascent.critic_pessimism * spread)
        adapted.zero_grad()
        (total / noise.shape[1]).backward()
        with torch.no_grad():
            for parameter in adapted.values.policy.parameters():
                parameter += config.ascent.rate * parameter.grad
    return adapted.values.act(observation)
