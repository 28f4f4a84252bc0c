"""Episodes without actions, or without rewards: read, counted, kept apart in the loss, left out on request."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import CriticConfig, DatasetConfig, RunConfig
from system.config.loading import load_config
from system.data.doctor import check_dataset
from system.data.raw_episode import RawEpisode
from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.incomplete import lacks_actions, lacks_rewards, recorded_whole, without_recordings
from system.data.store.statistics import compute_statistics
from system.data.validation import find_faults
from system.envs.registry import Environments
from system.errors import ConfigError, DataError
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import M3PCLearner
from system.types import Episode, SegmentBatch, TaskSpec
from tests.support.dataset_factory import make_episode
from tests.support.tiny_runs import DATASET, ENVIRONMENT, write_tiny_config

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)


def episode(seed: int, *, actions: bool = True, rewards: bool = True, length: int = 9) -> Episode:
    generator = np.random.default_rng(seed)
    return Episode(
        observations=generator.normal(size=(length + 1, 3)).astype(np.float32),
        actions=generator.uniform(-1, 1, size=(length, 2)).astype(np.float32) * (1.0 if actions else np.nan),
        rewards=generator.normal(size=length).astype(np.float32) * np.float32(1.0 if rewards else np.nan),
        terminated=True,
        truncated=False,
        complete=True,
    )


def store_of(*episodes: Episode) -> EpisodeStore:
    return EpisodeStore.from_episodes(episodes, discount=0.9)


STORE = store_of(episode(0), episode(1, actions=False), episode(2, rewards=False), episode(3))


def test_a_store_knows_what_its_episodes_lack() -> None:
    assert lacks_actions(STORE).tolist() == [False, True, False, False]
    assert lacks_rewards(STORE).tolist() == [False, False, True, False]
    assert recorded_whole(STORE).tolist() == [True, False, False, True]
    rows = slice(*STORE.step_offsets[2:4])
    assert not STORE.returns_valid[rows].any()
    assert np.isfinite(STORE.returns_to_go).all()


def test_statistics_are_those_of_what_was_recorded() -> None:
    found = compute_statistics(STORE, 20)
    rest = compute_statistics(store_of(episode(0), episode(1, actions=False), episode(3)), 20)
    for name in ("reward_mean", "reward_std", "return_mean", "return_std", "episode_return_mean"):
        assert getattr(found, name) == pytest.approx(getattr(rest, name)), name
    assert np.array_equal(found.target_returns, rest.target_returns)


def test_a_share_of_episodes_forgets() -> None:
    whole = store_of(*(episode(seed) for seed in range(20)))
    before = whole.actions.copy()
    few = without_recordings(whole, actions=0.95, rewards=0.5, seed=0)
    more = without_recordings(whole, actions=0.75, rewards=0.0, seed=0)
    assert lacks_actions(few).sum() == 19
    assert lacks_rewards(few).sum() == 10
    forgotten = np.repeat(lacks_rewards(few), few.lengths)
    assert np.array_equal(few.returns_valid, ~forgotten), "returns are forgotten with the rewards"
    assert lacks_actions(more).sum() == 15
    assert not lacks_rewards(more).any()
    assert (lacks_actions(more) <= lacks_actions(few)).all(), "who knows little is among those who know more"
    assert np.array_equal(whole.actions, before)
    assert lacks_actions(without_recordings(whole, actions=1.0, rewards=0.0, seed=0)).sum() == 19


MODEL = ModelConfig(context_length=4, width=16, encoder_layers=1, decoder_layers=1, num_heads=2)


def learner(incomplete: str = "keep") -> M3PCLearner:
    config = masked_config(
        model=MODEL,
        training=TrajectoryTrainingConfig(batch_size=4, mask_shares={"forward_dynamics": 0.5}),
        critic=CriticConfig(hidden_width=8, updates_per_step=0),
        dataset=DatasetConfig(id="toy/x-v0", incomplete=incomplete),  # type: ignore[arg-type]
    )
    agent = TrajectoryAgent(TASK, config)
    agent.set_statistics(compute_statistics(STORE, 20))
    return M3PCLearner(agent, config)


def batch(store: EpisodeStore = STORE) -> SegmentBatch:
    return gather_segments(store, np.arange(4), np.full(4, 6), 4)


def test_nothing_of_what_is_not_recorded_enters_an_update() -> None:
    """Updates of such batches are finite, and the same every time."""
    found, states = [], []
    for _ in range(2):
        each = learner()
        for step in range(6):
            found.append(each.update(batch(), [], stage="offline", step=step))
        states.append(each.state())
    for metrics in found:
        assert all(bool(torch.isfinite(value).all()) for value in metrics.values())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("step", range(6))
def test_the_loss_is_that_of_the_recorded_part(step: int) -> None:
    """Rows without actions, or rewards, add nothing to the terms of these, whatever stands in their place."""
    whole = batch(store_of(*(episode(seed) for seed in range(4))))
    actions, rewards = whole.actions.copy(), whole.rewards.copy()
    actions[1], rewards[2] = np.nan, np.nan
    lacking = replace(whole, actions=actions, rewards=rewards)
    each = learner()
    inputs = each._inputs(lacking, "offline", step)
    assert inputs["actions_known"].all(dim=1).tolist() == [True, False, True, True]
    assert inputs["rewards_known"].all(dim=1).tolist() == [True, True, False, True]
    assert torch.isfinite(inputs["actions"]).all()
    other = {name: value.clone() for name, value in inputs.items()}
    other["actions"][1], other["rewards"][2] = 0.7, 0.7
    kept = {name: value.clone() for name, value in each.agent.model.state_dict().items()}
    first = each._step(inputs)
    again = learner()
    assert all(torch.equal(kept[name], value) for name, value in again.agent.model.state_dict().items())
    second = again._step(other)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_whole_episodes_are_learnt_from_as_ever() -> None:
    whole = batch(store_of(*(episode(seed) for seed in range(4))))
    kept, refused = learner("keep"), learner("refuse")
    first = kept.update(whole, [], stage="offline", step=0)
    second = refused.update(whole, [], stage="offline", step=0)
    assert all(torch.equal(value, second[name]) for name, value in first.items())



def test_an_episode_without_actions_is_a_fault_unless_it_is_asked_for() -> None:
    whole = make_episode(6, "terminated", 0, TASK)
    observed = RawEpisode(
        number=3,
        observations=whole.observations,
        actions=np.full((6, 2), np.nan),
        rewards=whole.rewards,
        terminations=np.array([False] * 5 + [True]),
        truncations=np.zeros(6, bool),
    )
    said = str(find_faults(observed, TASK)[0])
    assert "episode 3: its actions are not recorded; dataset.incomplete: keep" in said
    assert find_faults(observed, TASK, incomplete=True) == []
    spotty = replace(observed, actions=np.where(np.arange(6)[:, None] == 2, np.nan, 0.1) * np.ones((6, 2)))
    assert "step 2: action dimension 0 is nan" in str(find_faults(spotty, TASK, incomplete=True)[0])


def settings(tmp_path: Path, *overrides: str) -> RunConfig:
    return load_config(RunConfig, str(write_tiny_config(tmp_path)), list(overrides), presets=tmp_path)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.incomplete: refuse, with episodes that forget"):
        settings(tmp_path, "dataset.hide_actions=0.5")
    with pytest.raises(ConfigError, match=r"critic.updates_per_step: 1, and critics learn from whole transitions"):
        settings(tmp_path, "dataset.incomplete=keep")
    with pytest.raises(ConfigError, match=r"family world_action learns from whole episodes"):
        load_config(
            RunConfig, {"family": "world_action", "dataset": {"incomplete": "keep"}}, [], presets=tmp_path
        )


def test_runs_keep_or_drop_what_is_incomplete(tmp_path: Path) -> None:
    from system.training.preparation import prepare_data

    zero = "masked_trajectory.critic.updates_per_step=0"
    kept = prepare_data(
        settings(tmp_path, "dataset.incomplete=keep", "dataset.hide_actions=0.5", zero), tmp_path / "cache"
    )
    dropped = prepare_data(
        settings(tmp_path, "dataset.incomplete=drop", "dataset.hide_actions=0.5", zero), tmp_path / "cache"
    )
    lacking = int(lacks_actions(kept.training).sum())
    assert lacking == round(0.5 * kept.training.num_episodes)
    assert dropped.training.num_episodes == kept.training.num_episodes - lacking
    assert not lacks_actions(kept.validation).any()
    assert f"{lacking} lack actions and 0 rewards" in " ".join(kept.notes)
    assert f"left out, for want of actions or rewards: {lacking}" in " ".join(dropped.notes)


def test_a_dataset_without_some_actions_is_read_and_looked_over(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    write_tiny_config(tmp_path)
    file = next((tmp_path / "datasets").rglob("main_data.hdf5"))
    with h5py.File(file, "r+") as opened:
        opened["episode_2"]["actions"][...] = np.nan
        opened["episode_4"]["rewards"][...] = np.nan
    config = DatasetConfig(id=DATASET, path=str(tmp_path / "datasets"), download=False)
    environments = Environments()
    report = check_dataset(config, environments=environments)
    assert [line.split(":")[0] for line in report.faults] == ["episode 2", "episode 4"]
    asked = replace(config, incomplete="keep")
    report = check_dataset(asked, environments=environments)
    assert report.faults == []
    assert "1 of 12 episodes have no actions" in report.warnings
    assert "1 of 12 episodes have no rewards" in report.warnings
    assert all(np.isfinite([each.minimum, each.mean, each.maximum]).all() for each in report.coverage)
    from system.data.loading import load_dataset

    with pytest.raises(DataError, match="its actions are not recorded"):
        load_dataset(config, environments=environments, discount=0.9)
    assert lacks_actions(load_dataset(asked, environments=environments, discount=0.9).store).sum() == 1
    left = load_dataset(replace(config, incomplete="drop"), environments=environments, discount=0.9)
    assert left.store.num_episodes == 10
    assert len(left.dropped) == 2
    assert ENVIRONMENT == left.task.environment_id
