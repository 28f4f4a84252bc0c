"""The distilled policy: what an action may depend on, what it is trained by, and how much of it is imagined."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from system.config import RunConfig
from system.data.replay.buffer import ReplayBuffer
from system.data.store.statistics import compute_statistics
from system.evaluation.policies import planner_policy_name
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.config import DistilledModelConfig
from system.families.imagination.imagined_windows import ImaginedWindows
from system.families.imagination.learner import ImaginationLearner, distillation_losses
from system.families.imagination.model import DistilledPolicy
from system.families.imagination.policies import make_policy
from system.planning.history import History
from system.training.learner_worker import LearnerWorker
from system.training.protocols import UpdateRequest
from system.types import EpisodeKey
from tests.support.configs import with_method
from tests.support.tiny_imagination import LIMIT, TASK, tiny_agent, tiny_config, tiny_store
from tests.support.tiny_workers import relative_difference
from tests.unit.test_gradient_averaging import ThreadGroup

CONFIG = tiny_config()


def make_model() -> DistilledPolicy:
    torch.manual_seed(0)
    model = DistilledPolicy(3, 2, DistilledModelConfig(context_length=5, width=16, num_layers=2, num_heads=2))
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def make_window(valid_steps: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    valid = torch.arange(5).expand(2, -1) >= 5 - valid_steps
    window = {
        "observations": torch.randn(2, 5, 3, generator=generator),
        "actions": torch.rand(2, 5, 2, generator=generator),
        "asked": torch.randn(2, 5, generator=generator),
    }
    for value in window.values():
        value[~valid] = 0.0
    return {**window, "valid": valid}


@pytest.mark.parametrize("name", ["observations", "actions", "asked"])
def test_an_action_sees_what_came_before_it_alone(name: str) -> None:
    model, window = make_model(), make_window()
    before = model(**window)
    changed = {**window, name: window[name].clone()}
    changed[name][:, 2] += 1.0
    after = model(**changed)
    first = 3 if name == "actions" else 2
    assert torch.allclose(before[:, :first], after[:, :first], atol=1e-6)
    assert not torch.allclose(before[:, first:], after[:, first:], atol=1e-4)


def test_what_lies_before_an_episode_is_not_seen() -> None:
    model, window = make_model(), make_window(3)
    filled = {name: value.clone() for name, value in window.items()}
    for name in ("observations", "actions", "asked"):
        filled[name][:, :2] = 5.0
    torch.testing.assert_close(model(**window)[:, 2:], model(**filled)[:, 2:])
    shorter = {name: value[:, 2:] for name, value in window.items()}
    torch.testing.assert_close(model(**shorter), model(**window)[:, 2:])


def test_the_newest_action_is_that_of_the_whole_window() -> None:
    model, window = make_model(), make_window(4)
    newest = model.newest(
        window["observations"], window["actions"][:, :-1], window["asked"], window["valid"]
    )
    torch.testing.assert_close(newest, model(**window)[:, -1])


def test_losses_are_those_of_equation_26() -> None:
    agent, window = tiny_agent(CONFIG, tiny_store(8, 9)), make_window(4)
    counted = torch.arange(5).expand(2, -1) >= 3
    losses = distillation_losses(agent, **window, counted=counted)
    decided = agent.model(**window)
    imitation = q = 0.0
    for row in range(2):
        for step in (3, 4):
            imitation += (decided[row, step] - window["actions"][row, step]).square().mean().item() / 10
            critics = agent.values.standardized_q(
                window["observations"][row, step][None], decided[row, step][None], target=True
            )
            q += critics.min().item() / 10
    assert losses["imitation"].item() == pytest.approx(imitation, rel=1e-4)
    assert losses["q"].item() == pytest.approx(q, rel=1e-4)


def make_worker(config: RunConfig, **group: Any) -> LearnerWorker:
    store = tiny_store(8, 9, 12)
    replay = ReplayBuffer(store, context_length=5, max_episode_steps=LIMIT)
    replay.add_episodes([replace(store.episode(1), key=EpisodeKey(0, 0, 0))])
    return LearnerWorker(TASK, config, compute_statistics(store, LIMIT), replay, **group)


def moved(config: RunConfig, step: int) -> set[str]:
    """Which of the agent's parts an offline update step changes."""
    worker = make_worker(config)
    before = worker.weights()
    worker.update(UpdateRequest("offline", step, 1))
    after = worker.weights()
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(("q_weight", "name", "sign"), [(100.0, "policy/q", 1.0), (0.0, "policy/imitation", -1.0)])
def test_distilling_raises_q_and_nears_what_was_done(q_weight: float, name: str, sign: float) -> None:
    training = replace(CONFIG.method.training, q_weight=q_weight, learning_rate=1e-2)
    worker = make_worker(with_method(CONFIG, training=training))
    worker.agent.model.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    course = [worker.update(UpdateRequest("offline", 4, 1))[name] for _ in range(15)]
    assert sign * (course[-1] - course[0]) > 0.0


def test_world_and_values_come_first_and_the_policy_after_them() -> None:
    assert moved(CONFIG, 3) == {"world", "values"}
    assert moved(CONFIG, 4) == {"model"}


def make_imagined(count: int) -> ImaginedWindows:
    """Windows that are told by an observation of 9."""
    return ImaginedWindows(
        torch.full((count, 5, 3), 9.0),
        torch.zeros(count, 5, 2),
        torch.ones(count, 5),
        torch.ones(count, 5, dtype=torch.bool),
        torch.arange(5).expand(count, -1) >= 3,
    )


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_a_batch_holds_its_share_of_imagined_windows(share: float, rows: int) -> None:
    config = with_method(CONFIG, training=replace(CONFIG.method.training, imagined_share=share))
    agent = tiny_agent(config, tiny_store(8))
    worker = make_worker(config)
    segments = worker._segments(UpdateRequest("offline", 4, 1), 4)
    found = {}
    for shards in (1, 2):
        parts = []
        for rank in range(shards):
            learner = ImaginationLearner(agent, config, shard=(rank, shards))
            learner.imagined = make_imagined(3)
            own = slice(rank * 8 // shards, (rank + 1) * 8 // shards)
            part = type(segments)(**{name: value[own] for name, value in vars(segments).items()})
            parts.append(learner._policy_inputs(part, "offline", 4))
        found[shards] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    is_imagined = (found[1]["observations"] == 9.0).all(-1).all(-1)
    assert int(is_imagined.sum()) == rows
    assert found[1]["counted"][is_imagined].sum() == 2 * rows
    for name, value in found[1].items():
        assert torch.equal(value, found[2][name]), "two learners are given what one is"


def test_imagined_windows_are_part_of_the_state() -> None:
    worker, other = make_worker(CONFIG), make_worker(CONFIG)
    state = {**worker.state(), **make_imagined(3).state()}
    for each in (worker, other):
        each.load_state(state)
        each.update(UpdateRequest("offline", 5, 2))
    assert worker.learner.imagined.observations.shape == (3, 5, 3)
    for name, value in worker.state().items():
        assert torch.equal(value, other.state()[name])
    kept = make_imagined(3).followed_by(make_imagined(2), most=4)
    assert len(kept) == 4


def history_of(agent: ImaginationAgent) -> History:
    history = History(2, 5, 3, 2)
    generator = np.random.default_rng(0)
    history.reset([0, 1], generator.normal(size=(2, 3)).astype(np.float32))
    for _ in range(2):
        history.append(
            generator.uniform(-1, 1, size=(2, 2)).astype(np.float32),
            generator.normal(size=(2, 3)).astype(np.float32),
            np.ones(2, bool),
        )
    return history


def test_one_policy_is_asked_by_values_and_the_other_by_returns() -> None:
    agent = tiny_agent(CONFIG, tiny_store(8, 9))
    torch.nn.init.normal_(agent.model.head.weight)
    history, generator = history_of(agent), torch.Generator()

    def act(name: str, ratio: float) -> np.ndarray:
        planner = replace(CONFIG.planner, target_return_ratio=ratio)
        return make_policy(name, agent, TASK, CONFIG, planner, "").act(history, np.arange(2), generator).action

    assert np.array_equal(act("ipd", 0.2), act("ipd", 1.0))
    assert not np.allclose(act("decision_transformer", 0.2), act("decision_transformer", 1.0))
    agent.target_returns.fill_(3.0)
    agent.value = lambda observations: torch.full_like(observations[..., 0], 3.0)  # type: ignore[method-assign]
    np.testing.assert_allclose(act("ipd", 1.0), act("decision_transformer", 1.0), rtol=1e-5)


def test_exploring_draws_candidates_about_the_action_by_their_q() -> None:
    agent = tiny_agent(CONFIG, tiny_store(8, 9))
    history, rows = history_of(agent), np.arange(2)
    planner = replace(CONFIG.planner, select="sample", num_candidates=64)
    plain = make_policy("ipd", agent, TASK, CONFIG, CONFIG.planner, "").act(history, rows, torch.Generator())
    plan = make_policy("ipd", agent, TASK, CONFIG, planner, "").act(
        history, rows, torch.Generator().manual_seed(0)
    ).plan
    assert plain.plan is None
    assert plan is not None
    np.testing.assert_allclose(plan.first_actions[:, 0].numpy(), plain.action, rtol=1e-6)
    observations = torch.from_numpy(history.observations[rows, -1])
    torch.testing.assert_close(
        plan.utilities[:, 5], agent.values.q(observations, plan.first_actions[:, 5]), check_dtype=False
    )
    assert (plan.utilities.argsort(1) == plan.probabilities.argsort(1)).float().mean() > 0.9


def test_without_imagined_windows_a_return_that_is_not_known_does_not_count() -> None:
    training = replace(CONFIG.method.training, asked="return")
    config = with_method(CONFIG, training=training)
    learner = ImaginationLearner(tiny_agent(config, tiny_store(8)), config)
    segments = make_worker(config)._segments(UpdateRequest("offline", 4, 1), 4)
    unknown = replace(segments, returns_valid=np.zeros_like(segments.returns_valid))
    assert not learner._policy_inputs(unknown, "offline", 4)["counted"].any()
    by_value = ImaginationLearner(tiny_agent(CONFIG, tiny_store(8)), CONFIG)
    assert by_value._policy_inputs(unknown, "offline", 4)["counted"].any()


@pytest.mark.parametrize(("stage", "step"), [("offline", 3), ("offline", 5), ("online", 5)])
def test_two_learners_on_half_batches_equal_one_on_the_whole(stage: str, step: int) -> None:
    """World model, values with their threshold, and policy with imagined windows."""
    group, request = ThreadGroup(), UpdateRequest(stage, step, 1, 0.5)
    whole = make_worker(CONFIG)
    halves = [
        make_worker(CONFIG, average_gradients=partial(group.average, rank), shard=(rank, 2)) for rank in range(2)
    ]
    for worker in (whole, *halves):
        worker.load_state({**worker.state(), **make_imagined(3).state()})
    whole.update(request)
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda worker: worker.update(request), halves))
    first, second = (worker.state() for worker in halves)
    assert relative_difference(first, second) == 0.0
    assert relative_difference(first, whole.state()) <= 1e-5


def test_a_run_is_judged_by_its_planner_or_by_what_is_distilled_of_it() -> None:
    assert planner_policy_name(CONFIG) == "imagined_mpc"
    assert planner_policy_name(replace(CONFIG, planner=replace(CONFIG.planner, horizon=0))) == "quasi_optimal"
    training = replace(CONFIG.method.training, judged_by="distilled")
    assert planner_policy_name(with_method(CONFIG, training=training)) == "ipd"
