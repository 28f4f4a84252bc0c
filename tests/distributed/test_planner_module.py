"""A checkpoint inside RLlib plays as it does outside: its history is carried from step to step, and resets."""

import re
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from system.cli.main import main
from system.distributed.planner_module import PlannerModule
from system.envs.registry import find_task, make_environment
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError
from system.evaluation.policies import make_policy
from system.evaluation.rollouts import play_episodes
from system.runs.saved_agent import find_environment, open_agent
from tests.support.tiny_games import write_tiny_game_config
from tests.support.tiny_runs import write_tiny_config

SEEDS = (3, 4, 5)
MAX_STEPS = 9


@pytest.fixture(scope="module", params=["m3pc", "jowa"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    write, policy = {"m3pc": (write_tiny_config, "rcbc_mode"), "jowa": (write_tiny_game_config, "q_greedy")}[
        request.param
    ]
    config = write(folder, evaluation={"policies": [policy], "episodes": 1})
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def make_module(checkpoint: Path, policy: str) -> PlannerModule:
    environment = make_environment(open_agent(checkpoint).tasks[0].environment_id)
    return PlannerModule(
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        model_config={"checkpoint": str(checkpoint), "policy": policy},
    )


def batch_of(observations: np.ndarray, states: list[dict[str, np.ndarray]]) -> dict:
    """As RLlib hands it over: observations with a time axis, states stacked."""
    stacked = {name: torch.from_numpy(np.stack([state[name] for state in states])) for name in states[0]}
    return {Columns.OBS: torch.from_numpy(observations)[:, None], Columns.STATE_IN: stacked}


def play_through_module(module: PlannerModule, environments: EnvironmentBatch) -> list[list[np.ndarray]]:
    """Actions of one episode per seed; a row whose episode ended begins the next one while the others go on."""
    pending = list(enumerate(SEEDS))
    rows = range(environments.num_environments)
    jobs = [pending.pop(0) for _ in rows]
    states = [module.get_initial_state() for _ in rows]
    observations = environments.reset(list(rows), [seed for _, seed in jobs])
    actions: list[list[np.ndarray]] = [[] for _ in SEEDS]
    active = np.ones(len(jobs), bool)
    while active.any():
        output = module.forward_inference(batch_of(observations, states))
        chosen = output[Columns.ACTIONS][:, 0].numpy()
        observations, _, terminated, truncated = environments.step(chosen, active)
        for row in np.flatnonzero(active).tolist():
            actions[jobs[row][0]].append(chosen[row])
            states[row] = {name: value[row].numpy() for name, value in output[Columns.STATE_OUT].items()}
            if not (terminated[row] or truncated[row]):
                continue
            if not pending:
                active[row] = False
                continue
            jobs[row] = pending.pop(0)
            states[row] = module.get_initial_state()
            observations[row] = environments.reset([row], [jobs[row][1]])[0]
    return actions


def test_the_module_plays_as_the_policy_does(checkpoint: Path) -> None:
    saved = open_agent(checkpoint)
    task, config = saved.tasks[0], saved.config
    policy = "rcbc_mode" if config.family == "masked_trajectory" else "q_greedy"
    environments = EnvironmentBatch(task.environment_id, 2, max_episode_steps=MAX_STEPS)
    expected = play_episodes(
        make_policy(policy, saved.agent, task, config, config.planner),
        environments,
        SEEDS,
        history_length=config.context_length,
        generator=torch.Generator(),
        perceive=partial(saved.agent.perceive, game=task.game),
    )
    played = play_through_module(make_module(checkpoint, policy), environments)
    for actions, reference in zip(played, expected.episodes, strict=True):
        # Rows that rest are decided for too, and a larger batch may round otherwise.
        np.testing.assert_allclose(np.stack(actions), reference.episode.actions, atol=1e-6)


def test_exploring_draws(checkpoint: Path) -> None:
    saved = open_agent(checkpoint)
    policy = "forward_mpc_q" if saved.config.family == "masked_trajectory" else "q_greedy"
    module = make_module(checkpoint, policy)
    environments = EnvironmentBatch(saved.tasks[0].environment_id, 1)
    observations = np.repeat(environments.reset([0], [0]), 64, axis=0)
    batch = batch_of(observations, [module.get_initial_state()] * 64)
    explored, decided = module.forward_exploration(batch), module.forward_inference(batch)
    assert len(np.unique(explored[Columns.ACTIONS].numpy(), axis=0)) > 1
    assert decided[Columns.ACTIONS].shape == explored[Columns.ACTIONS].shape


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("checkpoint", ["m3pc"], indirect=True)
def test_rllib_evaluates_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    example = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "examples" / "play_in_rllib.py"))
    example["main"]([str(checkpoint), "--episodes", "3"])
    played, mean_return = re.fullmatch(
        r"(\d+) episodes, mean return (\d+\.\d)\n", capsys.readouterr().out
    ).groups()
    assert int(played) == 3
    assert float(mean_return) > 0, "a pendulum earns 1 in every step it stands"


def test_an_environment_that_a_checkpoint_does_not_have_is_refused() -> None:
    pong, breakout = find_task("ALE/Pong-v5"), find_task("ALE/Breakout-v5")
    assert find_environment((pong,), None) == pong
    assert find_environment((pong, breakout), "ALE/Breakout-v5") == breakout
    for asked in (None, "Hopper-v5"):
        refusal = f"environment: {asked!r} is not one of the checkpoint's: ALE/Pong-v5, ALE/Breakout-v5"
        with pytest.raises(ConfigError, match=f"^{refusal}$"):
            find_environment((pong, breakout), asked)
