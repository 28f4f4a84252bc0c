"""The behaviour agent: what it exports acts as it does, what it saves it goes on from, what it records is true."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from system.distributed.behaviour import BehaviourAgent
from system.envs import recording
from system.envs.registry import find_task, make_environment
from system.errors import CheckpointError
from system.types import Episode

pytestmark = pytest.mark.usefixtures("ray_session")

NAME = "InvertedPendulum-v5"


def make_agent(seed: int = 3) -> BehaviourAgent:
    return BehaviourAgent(find_task(NAME), num_environments=4, env_runners=0, seed=seed)


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[BehaviourAgent, list[Episode]]]:
    agent = make_agent()
    yield agent, agent.train()
    agent.close()


def actions_of_the_algorithm(agent: BehaviourAgent, observations: np.ndarray) -> np.ndarray:
    """Means that RLlib's own filter and network give, not yet clipped."""
    runner = agent._algorithm.env_runner
    (observation_filter,) = [
        connector for connector in runner._env_to_module.connectors if type(connector).__name__ == "MeanStdFilter"
    ]
    filtered = np.stack([observation_filter._filters[None](each, update=False) for each in observations])
    module = agent._algorithm.get_module(DEFAULT_MODULE_ID)
    with torch.no_grad():
        outputs = module.forward_inference({"obs": torch.from_numpy(filtered.astype(np.float32))})
    return outputs["action_dist_inputs"][:, :1].numpy()


def test_the_exported_policy_acts_as_the_agent(trained: tuple[BehaviourAgent, list[Episode]]) -> None:
    agent, episodes = trained
    observations = np.concatenate([episode.observations for episode in episodes[-20:]])
    with torch.no_grad():
        exported = agent.policy()(torch.from_numpy(observations)).numpy()
    assert np.abs(exported - actions_of_the_algorithm(agent, observations)).max() < 1e-5
    assert np.ptp(exported) > 1e-3, "the comparison would mean nothing of a constant"


def test_the_recorded_episodes_are_whole_and_true(trained: tuple[BehaviourAgent, list[Episode]]) -> None:
    agent, episodes = trained
    steps = sum(episode.num_steps for episode in episodes)
    assert agent.env_steps - 4 * 1000 < steps <= agent.env_steps
    assert (2000 < agent.env_steps < 2100, agent.num_dropped) == (True, 0)
    for episode in episodes:
        assert episode.terminated
        assert episode.rewards.tolist() == [1.0] * (episode.num_steps - 1) + [0.0], "the task's own, not scaled"
        assert np.abs(episode.actions).max() <= 1.0
        assert abs(episode.observations[-1, 1]) > 0.2, "the last observation is that of the fall"
        assert np.abs(episode.observations[:-1, 1]).max() <= 0.2
        assert np.abs(episode.observations[0]).max() <= 0.01, "an episode starts where the task starts"


def test_a_saved_agent_goes_on(trained: tuple[BehaviourAgent, list[Episode]], tmp_path: Path) -> None:
    agent, episodes = trained
    agent.save(tmp_path / "agent.safetensors")
    other = make_agent(seed=4)
    observations = torch.from_numpy(episodes[0].observations)
    with torch.no_grad():
        assert not torch.equal(other.policy()(observations), agent.policy()(observations))
        other.load(tmp_path / "agent.safetensors")
        assert torch.equal(other.policy()(observations), agent.policy()(observations))
        assert np.array_equal(
            actions_of_the_algorithm(other, episodes[0].observations),
            actions_of_the_algorithm(agent, episodes[0].observations),
        )
    before = other._tensors()
    other.train()
    after = other._tensors()
    assert after["filter.count"] >= before["filter.count"] + 2000, "statistics are continued, not begun anew"
    assert not torch.equal(after["pi.net.mlp.0.weight"], before["pi.net.mlp.0.weight"])
    other.close()


def test_a_broken_or_foreign_file_is_refused(
    trained: tuple[BehaviourAgent, list[Episode]], tmp_path: Path
) -> None:
    agent, file = trained[0], tmp_path / "agent.safetensors"
    with pytest.raises(CheckpointError, match=r"agent\.safetensors: not a saved behaviour agent"):
        agent.load(file)
    agent.save(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"agent\.safetensors: not a saved behaviour agent"):
        agent.load(file)
    agent.policy().save(file)
    with pytest.raises(CheckpointError, match="of another agent"):
        agent.load(file)


class SometimesFailing(gymnasium.Wrapper):
    """Raises or gives NaN now and then."""

    steps = 0

    def step(self, action: np.ndarray) -> tuple:
        SometimesFailing.steps += 1
        result = self.env.step(action)
        if SometimesFailing.steps % 400 == 0:
            raise RuntimeError("the simulator gave up")
        if SometimesFailing.steps % 400 == 200:
            return np.full(4, np.nan, dtype=np.float32), *result[1:]
        return result


def test_f04_f06_an_agent_learns_on_where_environments_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "make_environment", lambda name: SometimesFailing(make_environment(name)))
    agent = make_agent()
    episodes = agent.train()
    assert agent.num_dropped == SometimesFailing.steps // 200
    assert len(episodes) > 50
    for episode in episodes:
        assert episode.terminated
        assert np.isfinite(episode.observations).all()
    assert all(torch.isfinite(tensor).all() for tensor in agent.policy().state_dict().values())
    agent.close()
