"""A trained policy in one's own program: observations in, actions in the environment's own bounds out."""

import copy
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from numpy.typing import ArrayLike

from system.config import RunConfig
from system.config.loading import Overrides
from system.decisions import Plan
from system.errors import ConfigError, PlannerError, ShapeError
from system.evaluation.policies import make_policy, planner_policy_name
from system.families.registry import Agent, family_of, policy_traits
from system.planning.acting import Policy
from system.planning.history import History
from system.runs.saved_agent import find_environment, open_agent
from system.seeding import torch_generator
from system.types import TaskSpec


def load_agent(
    path: str | Path,
    *,
    policy: str | None = None,
    environment: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int | None = None,
    overrides: Overrides = (),
) -> "LoadedAgent":
    """Loads a trained policy to act with.

    Args:
        path: a checkpoint, a run directory: its newest one, or what `o2o export` wrote.
        policy: a name of `LoadedAgent.policies`; None takes the one that was exported, of a checkpoint the
            configured planner.
        environment: of an agent that was trained on several, the one to act in.
        device: to plan on; `auto` takes CUDA where there is one.
        seed: of what is drawn while planning; None takes the run's.
        overrides: of the configuration, `{"planner.horizon": 2}`; or `key.path=value` each.

    Raises:
        CheckpointError: it is missing, damaged or not of a run.
        ConfigError: the policy, the environment or an override is not one that it has.
    """
    saved = open_agent(Path(path), overrides, device=device)
    return LoadedAgent(
        saved.agent,
        find_environment(saved.tasks, environment),
        saved.config,
        policy=policy or saved.policy or planner_policy_name(saved.config),
        seed=saved.config.seed if seed is None else seed,
    )


class LoadedAgent:
    """Acts in one environment or in several at once, and remembers what it has seen of each.

    Args:
        agent: in evaluation mode.
        task: what is acted in.
        config: of the run.
        policy: a name of `policies`.
        seed: of what is drawn while planning: the same observations get the same actions.

    Attributes:
        task, config, policy: as given.
        policies: every way of acting that the agent's family has.
        executed: the latest actions, as the model knows them: in [−1, 1], or numbers.
    """

    def __init__(self, agent: Agent, task: TaskSpec, config: RunConfig, *, policy: str, seed: int) -> None:
        self.task = task
        self.config = config
        self.policy = policy
        self.policies = tuple(family_of(config).policies())
        self._agent = agent
        self._seed = seed
        self._acting = make_policy(policy, agent, task, config, config.planner)
        self._planning: Policy | None = self._acting if policy_traits(policy).plans else None
        self._shape = task.frame_shape or (task.observation_dim,)
        self._history: History | None = None
        self.executed = np.zeros(0)
        self._begins: Bool[np.ndarray, "B"] = np.ones(1, bool)
        self._decisions = 0

    def reset(self, num_environments: int = 1) -> None:
        """Begins new episodes: forgets what was seen, and takes the next observation for an episode's first.

        Args:
            num_environments: B, how many are acted in together from now on.
        """
        if operator.index(num_environments) < 1:
            raise ShapeError(f"num_environments: {num_environments} is less than 1")
        self._history = None
        self._begins = np.ones(num_environments, bool)

    def restart(self, environments: Sequence[int]) -> None:
        """Begins new episodes in some of the environments, while the others go on.

        Args:
            environments: their places among the B.
        """
        self._begins[list(environments)] = True

    def act(self, observation: ArrayLike | Mapping[str, Any]) -> np.ndarray | int:
        """Decides, and remembers the observation and the decision.

        Args:
            observation: what the environment shows, or a batch of B with a leading axis; of a Dict its parts by
                name, or the flat vector.

        Returns:
            The action in the environment's own bounds, float32 [A] or [B, A]; of discrete ones its number, an int
            or int64 [B].

        Raises:
            ShapeError: it is not what the environment shows, or of another number of environments.
            PlannerError: it is not finite.
        """
        observed, is_single = self._observed(observation)
        if self._history is None:
            self._history = self._new_history(observed)
        self._remember(self._history, observed)
        action = self._acting.act(self._history, np.arange(len(observed)), self._generator()).action
        self.executed = action.astype(self._history.actions.dtype)
        self._begins[:] = False
        self._decisions += 1
        own = in_own_bounds(self.task, action)
        if not is_single:
            return own
        return int(own[0]) if self.task.is_discrete else own[0]

    def plan(self, observation: ArrayLike | Mapping[str, Any]) -> Plan:
        """The plan that `act` would follow here, or the configured planner's where the policy does not plan.

        Nothing is remembered: `act` has yet to be called with the same observation.

        Args:
            observation: as for `act`.

        Returns:
            A batch of B plans, of 1 where the observation is a single one; its actions are those of the model, in
            [−1, 1] or numbers.

        Raises:
            ShapeError, PlannerError: as `act`.
            ConfigError: the configured planner does not look ahead.
        """
        observed, _ = self._observed(observation)
        history = self._new_history(observed) if self._history is None else copy.deepcopy(self._history)
        self._remember(history, observed)
        plan = self._planner().act(history, np.arange(len(observed)), self._generator()).plan
        if plan is None:
            raise ConfigError(f"planner.horizon: {self.config.planner.horizon} plans nothing")
        return plan

    def encode(self, observations: ArrayLike, actions: ArrayLike | None = None) -> np.ndarray:
        """Representations of single steps, for another learner: what the pretrained model makes of them.

        Args:
            observations: a batch of them, [B, ...].
            actions: in [−1, 1], or numbers from 0, a row each; None encodes the observations alone.

        Returns:
            Float32 [B, features].

        Raises:
            ConfigError: the family has no representations.
            ShapeError, PlannerError: as `act`.
        """
        encode = family_of(self.config).encode
        if encode is None:
            raise ConfigError(f"family: {self.config.family} has no representations of single steps")
        shown = np.asarray(observations, np.uint8 if self.task.frame_shape is not None else np.float32)
        if shown.shape[1:] != self._shape:
            raise ShapeError(f"observation: {shown.shape}, but {self.task.environment_id} shows {self._shape}")
        if not np.isfinite(shown).all():
            raise PlannerError("observation: not finite")
        device = self._agent.device
        taken = None
        if actions is not None:
            taken = torch.tensor(np.asarray(actions), device=device)
            taken = taken.long() if self.task.is_discrete else taken.float()
        with torch.no_grad():
            perceived = torch.tensor(self._agent.perceive(shown, self.task.game), device=device)
            return np.asarray(encode(self._agent, perceived, taken).float().cpu().numpy())

    def _planner(self) -> Policy:
        if self._planning is None:
            name = planner_policy_name(self.config)
            self._planning = make_policy(name, self._agent, self.task, self.config, self.config.planner)
        return self._planning

    def _observed(self, observation: ArrayLike | Mapping[str, Any]) -> tuple[np.ndarray, bool]:
        """[B, ...] as the policy observes it, and whether it was given without that axis."""
        kind = np.uint8 if self.task.frame_shape is not None else np.float32
        if isinstance(observation, Mapping):
            observation = join_parts(self.task, observation)
        shown = np.asarray(observation, kind)
        is_single = shown.ndim == len(self._shape)
        batch = shown[None] if is_single else shown
        if batch.shape[1:] != self._shape:
            raise ShapeError(f"observation: {shown.shape}, but {self.task.environment_id} shows {self._shape}")
        if len(batch) != len(self._begins):
            raise ShapeError(f"observation: of {len(batch)} environments, but reset began {len(self._begins)}")
        if not np.isfinite(batch).all():
            raise PlannerError("observation: not finite")
        return self._agent.perceive(batch, self.task.game), is_single

    def _remember(self, history: History, observed: Shaped[np.ndarray, "B *observation"]) -> None:
        first = np.flatnonzero(self._begins)
        if len(first) < len(self._begins):
            history.append(self.executed, observed, ~self._begins)
        if len(first):
            history.reset(first.tolist(), observed[first])

    def _new_history(self, observed: Shaped[np.ndarray, "B *observation"]) -> History:
        return History.of_task(self.task, len(observed), self.config.context_length, observed)

    def _generator(self) -> torch.Generator:
        """The next decision's own: looking at its plan first does not change it."""
        return torch_generator(self._seed, "loaded agent", self._decisions, device=self._agent.device)


def in_own_bounds(task: TaskSpec, action: Shaped[np.ndarray, "*B action"]) -> Shaped[np.ndarray, "*B action"]:
    """Actions in [−1, 1] as the environment takes them; numbers of discrete ones as they are."""
    if task.is_discrete:
        return action + task.action_start
    low, high = task.action_bounds
    own = (low + 0.5 * (action.clip(-1.0, 1.0) + 1.0) * (high - low)).astype(np.float32)
    lowest, highest = low.astype(np.float32), high.astype(np.float32)
    return own.clip(
        np.where(lowest < low, np.nextafter(lowest, np.float32(np.inf)), lowest),
        np.where(highest > high, np.nextafter(highest, np.float32(-np.inf)), highest),
    )


def join_parts(task: TaskSpec, observation: Mapping[str, Any]) -> Shaped[np.ndarray, "*B observation"]:
    """The vector that an environment's Dict observation is learnt as, or a batch of them.

    Args:
        task: names the parts, nested ones as `outer.inner`.
        observation: arrays by name; of numbered values (Discrete, MultiDiscrete) as they are flattened, one-hot.

    Raises:
        ShapeError: names a part that is missing, or not of the size that was learnt.
    """
    if not task.observation_slices:
        raise ShapeError(f"observation: a mapping, but {task.environment_id} shows a vector")
    joined = []
    for name, start, stop in task.observation_slices:
        part: Any = observation
        for key in name.split("."):
            if not isinstance(part, Mapping) or key not in part:
                raise ShapeError(f"observation: has no part {name!r}, which {task.environment_id} shows")
            part = part[key]
        values, width = np.asarray(part, np.float32), stop - start
        if values.size != width and (values.ndim < 2 or values.size != len(values) * width):
            raise ShapeError(f"observation: {name!r} has shape {values.shape}, but {width} numbers were learnt")
        joined.append(values.reshape(-1, width) if values.size != width else values.reshape(width))
    if len({values.shape[:-1] for values in joined}) > 1:
        # A batch of one is as large as a single part.
        joined = [values.reshape(-1, values.shape[-1]) for values in joined]
    return np.concatenate(joined, axis=-1)
