"""What a pretrained model's representations are worth to an off-policy learner (MTM's section 4.5).

    python tests/benchmarks/representations.py runs/goals-hopper-0 --config dwm-hopper-medium-replay --seed 0

ReBRAC (TD3 with penalties for leaving the data) learns from the same transitions, with the settings of `--config`,
from

    raw            observations
    states         what the frozen model makes of them
    state_actions  the same; its critics, what the frozen model makes of observation and action together
    fine_tuned     states, of a model that learns on with the critics

and is measured on the same episodes `--times` times on the way. Every measurement is a line of JSON in `--output`.
"""

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from system.api import load_config, load_dataset
from system.data.prepared import PreparedData
from system.data.store.episodes import gather_transitions
from system.envs.vector import EnvironmentBatch
from system.evaluation.measurement import REPORT_SEEDS
from system.evaluation.rollouts import play_episodes
from system.evaluation.statistics import bootstrap_interval
from system.families.registry import family_of
from system.models.optimizer_state import keep_gradients
from system.planning.acting import Decision
from system.planning.history import History
from system.runs.saved_agent import SavedAgent, open_agent
from system.seeding import derive_seed
from system.values.rebrac import ReBRAC, ReBRACNetworks

RAW, STATES, STATE_ACTIONS, FINE_TUNED = INPUTS = ("raw", "states", "state_actions", "fine_tuned")
ROWS_OF_STATISTICS = 20_000
SMALLEST_STD = 1e-3


class Represented(ReBRACNetworks):
    """Policy and critics that see what a model makes of observations in their place.

    Args:
        saved: the pretrained model's.
        joint: the critics see what it makes of observation and action together.
        config: of ReBRAC.
        sample: observations and actions that representations are standardised by.
    """

    def __init__(
        self,
        saved: SavedAgent,
        config: Any,
        sample: tuple[Float[torch.Tensor, "R S"], Float[torch.Tensor, "R A"]],
        *,
        joint: bool,
    ) -> None:
        self._encode = family_of(saved.config).encode
        with torch.no_grad():
            of_states, of_both = self._encode(saved.agent, sample[0], None), self._encode(saved.agent, *sample)
        width, action_dim = of_states.shape[-1], sample[1].shape[-1]
        super().__init__(width, action_dim, config)
        self.encoder = saved.agent
        self.observation_mean.copy_(of_states.mean(0))
        self.observation_std.copy_(of_states.std(0).clamp_min(SMALLEST_STD))
        self.joint = joint
        if joint:
            wide = ReBRACNetworks(of_both.shape[-1], action_dim, config)
            self.critics, self.target_critics = wide.critics, wide.target_critics
            self.register_buffer("joint_mean", of_both.mean(0))
            self.register_buffer("joint_std", of_both.std(0).clamp_min(SMALLEST_STD))

    def normalize(self, observations: Float[torch.Tensor, "*B S"]) -> Float[torch.Tensor, "*B D"]:
        return super().normalize(self._encode(self.encoder, observations, None))

    def critic_inputs(
        self, observations: Float[torch.Tensor, "*B S"], actions: Float[torch.Tensor, "*B A"]
    ) -> Float[torch.Tensor, "*B inputs"]:
        if not self.joint:
            return super().critic_inputs(observations, actions)
        found = (self._encode(self.encoder, observations, actions) - self.joint_mean) / self.joint_std
        return torch.cat([found, actions], dim=-1)


class Learner:
    """ReBRAC on a training part, from one kind of inputs."""

    def __init__(self, inputs: str, saved: SavedAgent, data: PreparedData, config: Any, seed: int) -> None:
        self.store, self.config = data.training, config.method.critic
        self.generator = np.random.default_rng(derive_seed(seed, "representations"))
        self.noise = torch.Generator().manual_seed(derive_seed(seed, "noise"))
        torch.manual_seed(derive_seed(seed, "weights"))
        statistics = data.foundation
        saved = replace(saved, agent=copy.deepcopy(saved.agent))
        self.networks: ReBRACNetworks
        if inputs == RAW:
            self.networks = ReBRACNetworks(data.task.observation_dim, data.task.action_dim, self.config)
            self.networks.observation_mean.copy_(torch.from_numpy(statistics.observation_mean.copy()))
            self.networks.observation_std.copy_(torch.from_numpy(statistics.observation_std.copy()))
        else:
            batch = self.batch(ROWS_OF_STATISTICS)
            sample = torch.from_numpy(batch.observations), torch.from_numpy(batch.actions)
            self.networks = Represented(saved, self.config, sample, joint=inputs == STATE_ACTIONS)
            self.networks.encoder.model.requires_grad_(inputs == FINE_TUNED)
        self.networks.return_mean.fill_(statistics.return_mean)
        self.networks.return_std.fill_(statistics.return_std)
        self.learner = ReBRAC(self.networks, self.config, config.discount, keep_gradients)
        if inputs == FINE_TUNED:
            self.learner.critic_optimizer.add_param_group({"params": list(saved.agent.model.parameters())})
        self.done = 0

    def batch(self, size: int) -> Any:
        """Transitions drawn evenly."""
        row = self.generator.integers(self.store.num_steps, size=size)
        episode = np.searchsorted(self.store.step_offsets, row, side="right") - 1
        return gather_transitions(self.store, episode, row - self.store.step_offsets[episode])

    def fit(self, num_steps: int) -> None:
        """Goes on learning."""
        size = self.config.batch_size
        for _ in range(num_steps):
            batch = self.batch(size)
            noise = torch.randn(batch.actions.shape, generator=self.noise)
            self.learner.update(batch, noise, self.done)
            self.done += 1

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """What the policy does."""
        newest = history.context(rows, torch.zeros(len(rows)), 1).observations[:, -1]
        with torch.no_grad():
            return Decision(self.networks.act(newest).numpy())


def measured(learner: Learner, data: PreparedData, episodes: int) -> dict[str, Any]:
    """Returns of the reported episodes."""
    environments = EnvironmentBatch(data.task, episodes)
    seeds = list(range(REPORT_SEEDS, REPORT_SEEDS + episodes))
    play = play_episodes(learner, environments, seeds, history_length=1, generator=torch.Generator())
    environments.close()
    returns = np.array([each.episode.episode_return for each in play.episodes])
    scores = [data.task.normalized(value) for value in (returns.mean(), *bootstrap_interval(returns))]
    return {"returns": returns.tolist(), "return_mean": returns.mean(), "scores": scores}


def main() -> None:
    """Learns and measures, one kind of inputs after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a family with representations")
    parser.add_argument("--config", required=True, help="a preset or a file: the data, ReBRAC's settings")
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=INPUTS)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=5, help="measurements on the way")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/representations.jsonl"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(asked.config, [f"seed={asked.seed}"])
    data, saved = load_dataset(config), open_agent(asked.checkpoint, device="cpu")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    for inputs in asked.inputs:
        learner, spent = Learner(inputs, saved, data, config, asked.seed), 0.0
        for _ in range(asked.times):
            started = time.process_time()
            learner.fit(asked.updates // asked.times)
            spent += time.process_time() - started
            found = measured(learner, data, asked.episodes)
            row = {"inputs": inputs, "seed": asked.seed, "update_steps": learner.done, "cpu_minutes": spent / 60.0}
            with asked.output.open("a") as file:
                file.write(json.dumps({**row, **found}) + "\n")
            scores = found["scores"]
            score = "" if scores[0] is None else "  score {:.1f} [{:.1f}, {:.1f}]".format(*scores)
            print(f"{inputs:<14}{learner.done:>7} updates {spent / 60.0:>6.1f} min  "
                  f"return {found['return_mean']:.0f}{score}", flush=True)


if __name__ == "__main__":
    main()
