"""World models whose draws have a gradient: samplers by hand, every kind against finite differences."""

import pytest
import torch

from system.config import AscentConfig, ReBRACConfig, RunConfig
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.config import DifferentiableConfig, ModelKind, WorldModelConfig
from system.families.differentiable.imagination import AdaptablePolicy
from system.families.differentiable.samplers import Denoiser, MeanFlow, Sampler
from system.models.protocols import Outcome
from system.planning.imagined_return import imagined_return
from system.types import TaskSpec

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)
KINDS: tuple[ModelKind, ...] = ("mean_flow", "diffusion", "ensemble")
MEMBERS = 2


def make_agent(kind: ModelKind) -> WorldModelAgent:
    model = WorldModelConfig(kind, width=16, layers=1, members=MEMBERS, sampling_steps=3)
    method = DifferentiableConfig(model, critic=ReBRACConfig(hidden_width=16, hidden_layers=2))
    return WorldModelAgent(TASK, RunConfig(family="differentiable", method=method)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_every_kind_are_finite_differences(kind: ModelKind) -> None:
    """Of the return of three imagined steps, in the policy's last biases and in ε."""
    torch.manual_seed(2)
    agent = make_agent(kind).double()
    model = AdaptablePolicy(agent, 0.9)
    start = torch.randn(2, 3, dtype=torch.float64)
    policy = dict(model.parameters())
    last = [name for name in policy if name.endswith("bias")][-1]
    noise = torch.randn(3, 4, 3, dtype=torch.float64)

    def objective(bias: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        def act(step: int, states: torch.Tensor) -> torch.Tensor:
            return torch.func.vmap(lambda own, seen: model.act({**policy, last: own}, seen))(bias, states)

        return imagined_return(model, act, start, noise, AscentConfig(num_noise=4)).returns

    bias = policy[last].expand(2, -1).clone()
    assert torch.autograd.gradcheck(objective, (bias.requires_grad_(), noise.requires_grad_()), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_futures_are_imagined_one_by_one(kind: ModelKind) -> None:
    model = AdaptablePolicy(make_agent(kind), 0.9, measure_disagreement=kind == "ensemble")
    generator = torch.Generator().manual_seed(0)
    states, actions = torch.randn(2, 4, 3, generator=generator), torch.rand(2, 4, 2, generator=generator)
    noise = torch.randn(4, 3, generator=generator)
    together = model.step(states, actions, noise)
    for row in range(2):
        for future in range(0, 4, MEMBERS):
            rows, futures = slice(row, row + 1), slice(future, future + MEMBERS)
            alone = model.step(states[rows, futures], actions[rows, futures], noise[futures])
            for name, values in vars(alone).items():
                assert torch.allclose(values, getattr(together, name)[rows, futures], atol=1e-6), name
    assert (together.disagreement > 0.0).all() == (kind == "ensemble")
    assert ((together.continues > 0.0) & (together.continues < 1.0)).all()


def test_a_member_imagines_its_own_futures() -> None:
    """Of an ensemble whose second member is told that everything is paid for."""
    agent = make_agent("ensemble")
    states, actions, noise = torch.zeros(1, 4, 3), torch.zeros(1, 4, 2), torch.zeros(4, 3)
    before = agent.model.imagine(states, actions, noise)
    with torch.no_grad():
        agent.model.ensemble.outcome[-1].bias[1, 0, 0] += 3.0
    after = agent.model.imagine(states, actions, noise)
    assert torch.allclose(after.rewards - before.rewards, torch.tensor([[0.0, 3.0, 0.0, 3.0]]), atol=1e-6)


def test_imagined_observations_stay_near_the_data() -> None:
    for kind in KINDS:
        agent = make_agent(kind)
        far: Outcome = agent.model.imagine(torch.full((1, 2, 3), 1e6), torch.zeros(1, 2, 2), torch.zeros(2, 3))
        assert torch.equal(far.states, torch.full((1, 2, 3), 10.0)), kind


def test_a_flow_whose_times_agree_is_flow_matching() -> None:
    torch.manual_seed(0)
    flow = MeanFlow(2, 3, width=8, layers=1, average_share=0.0)
    condition, target, noise, times = torch.randn(5, 2), torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3)
    late = times[:, :2].amax(1)
    noisy = (1 - late[:, None]) * target + late[:, None] * noise
    expected = (flow.velocity(condition, noisy, late, late) - (noise - target)).square().mean(1)
    assert torch.allclose(flow.errors(condition, target, noise, times), expected, atol=1e-6)


def test_a_mean_velocity_learns_from_its_own_change_along_the_flow() -> None:
    torch.manual_seed(0)
    flow = MeanFlow(2, 3, width=8, layers=1, average_share=1.0).double()
    shapes = (5, 2), (5, 3), (5, 3)
    condition, target, noise = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    times = torch.rand(5, 3, dtype=torch.float64)
    early, late, step = times[:, :2].amin(1), times[:, :2].amax(1), 1e-6

    def along(time: torch.Tensor) -> torch.Tensor:
        noisy = (1 - time[:, None]) * target + time[:, None] * noise
        return flow.velocity(condition, noisy, early, time)

    change = (along(late + step) - along(late - step)) / (2 * step)
    wanted = noise - target - (late - early)[:, None] * change
    expected = (along(late) - wanted).square().mean(1)
    found = flow.errors(condition, target, noise, times)
    assert torch.allclose(found, expected, atol=1e-6)
    gradient = torch.autograd.grad(found.sum(), flow.velocity.network[-1].bias)[0]
    held = (along(late) - wanted.detach()).square().mean(1).sum()
    held = torch.autograd.grad(held, flow.velocity.network[-1].bias)[0]
    assert torch.allclose(gradient, held, atol=1e-5), "what it learns towards is held"


def test_a_denoiser_that_knows_the_noise_finds_what_it_was_added_to() -> None:
    """One value for every ε: with an exact ε̂ the draw is that value, whatever the number of steps."""
    clean = torch.tensor([0.7, -0.4, 1.2])

    class Exact(torch.nn.Module):
        def __init__(self, kept: torch.Tensor) -> None:
            super().__init__()
            self.kept = kept

        def forward(self, condition: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            kept = self.kept[(time[..., None] * 50).round().long() - 1]
            return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()

    for num_steps in (1, 2, 5):
        denoiser = Denoiser(2, 3, width=8, layers=1, num_levels=50, num_steps=num_steps)
        denoiser.noise = Exact(denoiser.kept)
        drawn = denoiser.sample(torch.zeros(4, 2), torch.randn(4, 3))
        assert torch.allclose(drawn, clean.expand(4, 3), atol=1e-3)


@pytest.mark.parametrize(("kind", "least"), [("mean_flow", 0.1), ("diffusion", 0.2)])
def test_samplers_learn_mean_and_spread(kind: str, least: float) -> None:
    """x ~ N(c, 0.3²): a draw's mean follows the condition, its spread that of the data, or less by one step."""
    torch.manual_seed(0)
    sizes = {"width": 48, "layers": 2}
    sampler: Sampler
    if kind == "mean_flow":
        sampler = MeanFlow(1, 1, average_share=0.25, **sizes)
    else:
        sampler = Denoiser(1, 1, num_levels=50, num_steps=10, **sizes)
    optimizer = torch.optim.Adam(sampler.parameters(), lr=3e-3)
    for _ in range(400):
        condition = torch.rand(256, 1) * 2 - 1
        target = condition + 0.3 * torch.randn(256, 1)
        loss = sampler.errors(condition, target, torch.randn(256, 1), torch.rand(256, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for value in (-0.5, 0.5):
            drawn = sampler.sample(torch.full((2000, 1), value), torch.randn(2000, 1))
            assert abs(drawn.mean() - value) < 0.1
            assert least < drawn.std() < 0.4

