"""A checkpoint of this project as an RLlib module, so that RLlib's own runners and `Algorithm.evaluate` play it.

A planner looks at the last few steps. RLlib cuts episodes wherever a sample ends, so the history is not rebuilt
from its episodes: it is the module's recurrent state, which RLlib carries from step to step and resets with the
environment. The module plays; it is not trained in RLlib.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env

from system.envs.registry import make_environment
from system.evaluation.policies import make_policy, planner_policy_name
from system.planning.history import History
from system.runs.saved_agent import find_environment, open_agent
from system.seeding import torch_generator

State = dict[str, np.ndarray]


class PlannerModule(TorchRLModule):
    """Plays what a checkpoint's planner, or another of its policies, decides.

    Its `model_config` holds `checkpoint` (a path that every runner sees) and may hold `policy` (a name of
    `system.evaluation.policies.POLICIES`; the configured planner where it is left out), `environment` (of the
    checkpoint's ones, where it has several), `overrides` (`key.path=value` each) and `seed`. Actions are those of
    environments from `system.envs.registry`: in [−1, 1], or the game's numbers.
    """

    def setup(self) -> None:
        """Loads the checkpoint.

        Raises:
            CheckpointError: it is missing, damaged or not of a run.
            ConfigError: the policy, the environment or an override is not one that it has.
        """
        settings = self.model_config
        saved = open_agent(Path(settings["checkpoint"]), settings.get("overrides", ()))
        config = saved.config
        name = settings.get("policy") or planner_policy_name(config)
        self.agent = saved.agent
        self.task = find_environment(saved.tasks, settings.get("environment"))
        self.length = config.context_length
        self.generator = torch_generator(settings.get("seed", config.seed), "rllib", device=self.agent.device)
        planners = {"inference": config.planner, "exploration": replace(config.planner, select="sample")}
        self.policies = {
            purpose: make_policy(name, self.agent, self.task, config, planner)
            for purpose, planner in planners.items()
        }

    def get_initial_state(self) -> State:
        """The history of an episode that has not begun: see `History`; `executed` is the latest action."""
        space = self.observation_space
        seen = self._perceive(np.zeros((1, *space.shape), space.dtype))[0]
        history = History.of_task(self.task, 1, self.length, seen[None])
        action = np.zeros(self.action_space.shape, history.actions.dtype)
        return {
            "observations": history.observations[0],
            "actions": history.actions[0],
            "valid": history.valid[0].astype(np.float32),
            "steps": np.zeros(1, np.float32),
            "executed": action,
        }

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._play(batch, "inference")

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._play(batch, "exploration")

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError("a planner's checkpoint is trained with `o2o run`, not in RLlib")

    def _play(self, batch: dict[str, Any], purpose: str) -> dict[str, Any]:
        """One decision of B environments; RLlib gives recurrent modules a time axis of length one."""
        shown = batch[Columns.OBS][:, 0].cpu().numpy()
        state = {name: value.cpu().numpy() for name, value in batch[Columns.STATE_IN].items()}
        history = self._recall(state, self._perceive(shown.astype(self.observation_space.dtype)))
        action = self.policies[purpose].act(history, np.arange(len(shown)), self.generator).action
        memory = {
            "observations": history.observations,
            "actions": history.actions,
            "valid": history.valid.astype(np.float32),
            "steps": history.steps[:, None].astype(np.float32),
            "executed": action.astype(history.actions.dtype),
        }
        return {
            Columns.ACTIONS: torch.from_numpy(np.asarray(action))[:, None],
            Columns.STATE_OUT: {name: torch.from_numpy(value) for name, value in memory.items()},
        }

    def _perceive(self, shown: np.ndarray) -> np.ndarray:
        return self.agent.perceive(shown, self.task.game)

    def _recall(self, state: State, observed: np.ndarray) -> History:
        """The history with what is observed now as its newest step."""
        history = History.of_task(self.task, len(observed), self.length, observed)
        history.observations[:] = state["observations"]
        history.actions[:] = state["actions"]
        history.valid[:] = state["valid"] > 0
        history.steps[:] = state["steps"][:, 0]
        begins = ~history.valid[:, -1]
        history.append(state["executed"], observed, ~begins)
        first = np.flatnonzero(begins)
        if len(first):
            history.reset(first.tolist(), observed[first])
        return history


def rllib_config(
    checkpoint: Path,
    *,
    policy: str | None = None,
    environment_id: str | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
) -> AlgorithmConfig:
    """An RLlib configuration whose module plays a checkpoint; `build_algo().evaluate()` measures it.

    Args:
        checkpoint: a checkpoint, or a run directory: its newest one.
        policy: a name of `POLICIES`; None is the configured planner.
        environment_id: of a checkpoint of several games, the one to play.
        overrides: `key.path=value` each, of the checkpoint's configuration.
        seed: of environments and planner.

    Returns:
        The configuration, with the environment registered; set its evaluation's runners and duration.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or not of a run.
        ConfigError: the environment or an override is not one that it has.
    """
    saved = open_agent(checkpoint, overrides)
    task = find_environment(saved.tasks, environment_id)
    limit = saved.config.evaluation.max_episode_steps
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    name = f"o2o-{task.environment_id}"
    register_env(name, lambda _: make_environment(task, max_episode_steps=limit))
    module = RLModuleSpec(
        module_class=PlannerModule,
        model_config={
            "checkpoint": str(saved.path.resolve()),
            "environment": task.environment_id,
            "policy": policy,
            "overrides": list(overrides),
            "seed": seed,
            "max_seq_len": 1,
        },
    )
    config = BCConfig().framework("torch").debugging(seed=seed, log_level="ERROR")
    environment = make_environment(task)
    config.environment(
        name,
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        normalize_actions=False,
        clip_actions=False,
    )
    environment.close()
    config.rl_module(rl_module_spec=module)
    # RLlib's algorithms without an environment of their own for training need a runner to evaluate with.
    config.evaluation(evaluation_num_env_runners=1, evaluation_duration_unit="episodes")
    config.learners(num_learners=0)
    config.offline_data(dataset_num_iters_per_learner=1)  # RLlib asks for it; nothing is trained
    return config
