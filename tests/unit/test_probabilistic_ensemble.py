"""The probabilistic ensemble: its losses by hand, its draws, and that it learns a system with known noise."""

import math

import pytest
import torch

from system.models.probabilistic_ensemble import (
    Objective,
    ProbabilisticEnsemble,
    bounded_log_variance,
    regulariser_scale,
    world_losses,
)


def make_model(num_members: int = 3) -> ProbabilisticEnsemble:
    torch.manual_seed(0)
    model = ProbabilisticEnsemble(2, 1, num_members=num_members, hidden_width=16, hidden_layers=2)
    model.set_scales(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.5]), 3.0, 4.0)
    return model


def make_steps(count: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "observations": torch.randn(count, 2, generator=generator),
        "actions": torch.rand(count, 1, generator=generator),
        "rewards": torch.randn(count, generator=generator),
        "next_observations": torch.randn(count, 2, generator=generator),
        "terminated": torch.arange(count) % 2 == 0,
    }


@pytest.mark.parametrize("objective", ["likelihood", "consistency"])
def test_losses_by_hand(objective: Objective) -> None:
    model, steps, noise = make_model(), make_steps(), torch.randn(5, 2)
    losses = world_losses(
        model, **steps, noise=noise, scale=torch.tensor(0.5), regularised_log_variance=-4.5, objective=objective
    )
    foresight = model(steps["observations"], steps["actions"])
    std = model.observation_std
    means, variances = (foresight.means - model.observation_mean) / std, foresight.variances / std.square()
    there = (steps["next_observations"] - model.observation_mean) / std
    if objective == "consistency":
        drawn = (foresight.sample(noise) - model.observation_mean) / std
        expected = (drawn - there).square().mean()
    else:
        normal = torch.distributions.Normal(means, variances.sqrt())
        expected = (-2.0 * normal.log_prob(there) - math.log(2 * math.pi)).mean()
    torch.testing.assert_close(losses["transition"], expected, rtol=1e-4, atol=1e-5)
    covariance = (0.5 * (variances.mean(0) - math.exp(-4.5))).square().mean()
    torch.testing.assert_close(losses["covariance"], covariance)
    assert losses["end"].item() > 0.0
    assert losses["reward"].item() >= ((foresight.rewards - steps["rewards"]) / 4.0).square().mean().item()


def test_members_share_nothing() -> None:
    """Gradients of one member's prediction reach its own weights alone, and a member alone predicts the same."""
    model, steps = make_model(), make_steps()
    model(steps["observations"], steps["actions"]).means[1].sum().backward()
    for parameter in model.dynamics.parameters():
        assert parameter.shape[0] == 3
        assert parameter.grad is not None
        assert not parameter.grad[[0, 2]].any()
    alone = make_model(1)
    weights = model.state_dict().items()
    alone.load_state_dict({name: value[1:2] if value.ndim == 3 else value for name, value in weights})
    torch.testing.assert_close(
        alone(steps["observations"], steps["actions"]).means[0],
        model(steps["observations"], steps["actions"]).means[1],
    )


def test_batched_is_one_by_one_and_draws_are_differentiable() -> None:
    model, steps = make_model(), make_steps(6)
    observations, actions = steps["observations"].view(2, 3, 2), steps["actions"].view(2, 3, 1).requires_grad_()
    together = model(observations, actions)
    assert together.means.shape == together.variances.shape == (3, 2, 3, 2)
    alone = model(observations[1, 2][None], actions[1, 2][None])
    torch.testing.assert_close(alone.mean[0], together.mean[1, 2])
    torch.testing.assert_close(alone.rewards[0], together.rewards[1, 2])
    torch.testing.assert_close(model.next_mean(observations[0], actions[0]), together.mean[0])
    noise = torch.randn(2, 3, 2)
    drawn = together.sample(noise)
    torch.testing.assert_close(drawn, together.mean + together.variances.mean(0).sqrt() * noise)
    drawn.sum().backward()
    assert actions.grad is not None
    assert actions.grad.abs().sum() > 0


def test_variances_are_bounded_and_the_regulariser_decays() -> None:
    bounded = bounded_log_variance(torch.tensor([-1e6, 0.0, 1e6]))
    assert bounded.tolist() == pytest.approx([-10.0, -4.9, 0.2])
    assert regulariser_scale(0, initial=2.0, decay_steps=10.0) == 2.0
    assert regulariser_scale(10, initial=2.0, decay_steps=10.0) == pytest.approx(2.0 / math.e)


def test_it_learns_what_happens_and_how_noisy_it_is() -> None:
    """s′ = s + a with noise of 0.3 in one dimension and of nearly none in the other; reward a; ends above 1."""
    torch.manual_seed(0)
    model = ProbabilisticEnsemble(2, 1, num_members=2, hidden_width=32, hidden_layers=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(400):
        observations, actions = torch.randn(128, 2), 2.0 * torch.rand(128, 1) - 1.0
        losses = world_losses(
            model,
            observations,
            actions,
            actions[:, 0],
            observations + actions + torch.randn(128, 2) * torch.tensor([0.3, 0.02]),
            observations[:, 0] > 1.0,
            noise=torch.zeros(128, 2),
            scale=torch.tensor(regulariser_scale(step, initial=1.0, decay_steps=100.0)),
            regularised_log_variance=-4.5,
            objective="likelihood",
        )
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    observations, actions = torch.tensor([[0.0, 0.0], [2.0, 0.5]]), torch.tensor([[0.5], [-0.5]])
    foresight = model(observations, actions)
    assert (foresight.mean - observations - actions).abs().max() < 0.2
    deviations = foresight.variances.mean((0, 1)).sqrt()
    assert 0.2 < deviations[0] < 0.4
    assert deviations[1] < 0.12
    assert (foresight.rewards - actions[:, 0]).abs().max() < 0.2
    assert foresight.ends[0] < 0.3 < 0.7 < foresight.ends[1]
