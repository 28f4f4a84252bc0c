"""Behaviour agents: RLlib's PPO, recorded at the environment and exported without pickles.

What a dataset needs of the agent are whole episodes as they happened, which `RecordingEnvironment` keeps
inside RLlib's environment runners, and weights that can be stored: safetensors of the networks and of the
observation filter. The optimiser's moments are not stored; a resumed training starts them afresh.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.filter import RunningStat
from ray.tune.registry import register_env
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from system.envs.recording import Recording, make_recorded_environment
from system.errors import CheckpointError
from system.files import write_durably
from system.models.gaussian_policy import GaussianPolicy
from system.types import Episode, TaskSpec

HIDDEN_WIDTH = 64
REWARD_SCALE = 0.02
_FILTER_COMPONENT = "env_to_module_connector"
_FILTER_NAME = "MeanStdFilter"
_ACTOR_NAMES = {
    "encoder.actor_encoder.net.mlp.0": "network.0",
    "encoder.actor_encoder.net.mlp.2": "network.2",
    "pi.net.mlp.0": "network.4",
}
_STATISTICS = ("filter.count", "filter.mean", "filter.sum_of_squares")


class BehaviourAgent:
    """A PPO agent that learns one task and gives out every episode it went through.

    Attributes:
        env_steps: steps sampled by this object; a resumed agent counts from 0 again.
        num_dropped: episodes lost to environments that failed; counted likewise.
    """

    def __init__(self, task: TaskSpec, *, num_environments: int, env_runners: int, seed: int):
        """Builds the algorithm; Ray must be running.

        Args:
            task: what is played, with continuous actions.
            num_environments: stepped together by each runner.
            env_runners: Ray actors that sample; 0 samples in the calling process.
            seed: of networks, sampling and environments.

        Raises:
            ConfigError: the environment is not known or cannot be made.
        """
        self.task = task
        self.env_steps = 0
        self.num_dropped = 0
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
        name = f"behaviour-{task.environment_id}"
        register_env(name, lambda _: make_recorded_environment(task, reward_scale=REWARD_SCALE))
        config = _ppo_config(name, num_environments, env_runners, seed % 2**31)
        self._algorithm: PPO = config.build_algo()

    def train(self) -> list[Episode]:
        """One round of sampling and learning.

        Returns:
            The episodes that ended in it, in order of their ends, as the environment saw them.
        """
        self._algorithm.train()
        recordings = [
            recording
            for runner in self._algorithm.env_runner_group.foreach_env_runner(_drain)
            for recording in runner
        ]
        self.env_steps += sum(recording.env_steps for recording in recordings)
        self.num_dropped += sum(recording.num_dropped for recording in recordings)
        finished = [item for recording in recordings for item in recording.episodes]
        return [episode for _, episode in sorted(finished, key=lambda item: item[0])]

    def policy(self) -> GaussianPolicy:
        """The current policy as a plain torch module, observation statistics included."""
        tensors = self._tensors()
        state = {
            f"{ours}.{kind}": tensors[f"{theirs}.{kind}"]
            for theirs, ours in _ACTOR_NAMES.items()
            for kind in ("weight", "bias")
        }
        count, mean, squares = (tensors[name] for name in _STATISTICS)
        state["log_std"] = tensors["pi.log_std"]
        state["observation_mean"] = mean.float()
        state["observation_std"] = (squares / (count - 1).clamp(min=1)).sqrt().float() + 1e-8
        policy = GaussianPolicy(self.task.observation_dim, self.task.action_dim, HIDDEN_WIDTH)
        policy.load_state_dict(state)
        return policy

    def save(self, path: Path) -> None:
        """Writes networks and observation statistics as safetensors, whole or not at all."""
        write_durably(path, save(self._tensors()))

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            CheckpointError: the file is broken or of another agent.
        """
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a saved behaviour agent ({error})") from None
        current = self._tensors()
        differing = sorted(
            name
            for name in tensors.keys() | current.keys()
            if name not in tensors or name not in current or tensors[name].shape != current[name].shape
        )
        if differing:
            raise CheckpointError(f"{path}: of another agent: {differing[0]} differs")
        weights = {name: tensor.numpy() for name, tensor in tensors.items() if name not in _STATISTICS}
        learners = self._algorithm.learner_group
        learners.set_weights({DEFAULT_MODULE_ID: weights})
        self._algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=learners, inference_only=True)
        self._load_filter({name: tensors[name].numpy() for name in _STATISTICS})

    def close(self) -> None:
        """Ends the runners."""
        self._algorithm.stop()

    def _tensors(self) -> dict[str, torch.Tensor]:
        weights = self._algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
        tensors = {name: torch.as_tensor(np.array(value)) for name, value in weights.items()}
        state = self._algorithm.env_runner.get_state(components=_FILTER_COMPONENT)
        statistics = RunningStat.from_state(_filter_state(state)["running_stats"][0])
        tensors["filter.count"] = torch.tensor(statistics.num_pushes)
        tensors["filter.mean"] = torch.tensor(np.array(statistics.mean_array))
        tensors["filter.sum_of_squares"] = torch.tensor(np.array(statistics.sum_sq_diff_array))
        return tensors

    def _load_filter(self, values: Mapping[str, np.ndarray]) -> None:
        state = self._algorithm.env_runner.get_state(components=_FILTER_COMPONENT)
        statistics = RunningStat((self.task.observation_dim,))
        statistics.num_pushes = int(values["filter.count"])
        statistics.mean_array = values["filter.mean"].copy()
        statistics.sum_sq_diff_array = values["filter.sum_of_squares"].copy()
        _filter_state(state)["running_stats"] = [statistics.to_state()]
        self._algorithm.env_runner_group.foreach_env_runner(lambda runner: runner.set_state(state))


def _filter_state(runner_state: dict) -> dict:
    return runner_state[_FILTER_COMPONENT][_FILTER_NAME][None]


def _ppo_config(environment_name: str, num_environments: int, env_runners: int, seed: int) -> PPOConfig:
    """PPO with the settings that are usual for locomotion; rewards are scaled, observations filtered."""
    config = PPOConfig()
    config.environment(environment_name).framework("torch").debugging(seed=seed, log_level="ERROR")
    config.env_runners(
        num_env_runners=env_runners,
        num_envs_per_env_runner=num_environments,
        env_to_module_connector=lambda env, spaces, device: MeanStdFilter(),
    )
    config.learners(num_learners=0)
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=[HIDDEN_WIDTH, HIDDEN_WIDTH],
            fcnet_activation="tanh",
            vf_share_layers=False,
            free_log_std=True,
        )
    )
    config.training(
        lr=3e-4,
        gamma=0.99,
        lambda_=0.95,
        clip_param=0.2,
        use_kl_loss=False,
        vf_loss_coeff=0.5,
        vf_clip_param=float("inf"),
        entropy_coeff=0.0,
        grad_clip=0.5,
        train_batch_size_per_learner=2048,
        minibatch_size=64,
        num_epochs=10,
    )
    return config


def _drain(runner: EnvRunner) -> list[Recording]:
    """Runs where the environments are: what each of them did since the last call."""
    if runner.env is None:  # the local runner has none when remote ones sample
        return []
    return [environment.get_wrapper_attr("drain")() for environment in runner.env.unwrapped.envs]
