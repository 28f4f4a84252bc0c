"""The page that an exported policy carries: what it is, what it learnt from, what it reached, how to load it."""

from collections.abc import Mapping
from typing import Any

from system.runs.saved_agent import SavedAgent
from system.types import TaskSpec


def write_card(saved: SavedAgent, policy: str, summary: Mapping[str, Any], *, has_program: bool) -> str:
    """The page, in Markdown.

    Args:
        saved: the agent and its configuration.
        policy: that was exported.
        summary: of its run; empty where there is none.
        has_program: whether `one_pass.pt2` lies beside it.
    """
    environments = ", ".join(task.environment_id for task in saved.tasks)
    stage = {"online": "a dataset, then by acting", "offline": "a dataset alone"}.get(saved.stage, "a dataset")
    parts = [
        f"# {environments}: {policy}",
        f"A policy of the family {saved.config.family}, learnt from {stage}; exported from `{saved.path.name}`.",
        _data(saved, summary),
        _returns(saved, policy, summary),
        "## Loading it",
        "Torch, NumPy and the package `offline-to-online`, without its dependencies, are all that is needed.",
        _LOADING,
        *(_interface(task) for task in saved.tasks),
        "`example.npz` holds the first observations of an episode and what `act` does at each after `reset()`; "
        "other machines round otherwise, so compare with a tolerance.",
    ]
    if has_program:
        parts.append(_PROGRAM)
    return "\n\n".join(parts) + "\n"


_LOADING = """```python
import system

agent = system.load_agent("path/of/this/folder")
agent.reset()
action = agent.act(observation)
```"""

_PROGRAM = """`one_pass.pt2` is the same policy as a program of torch alone, without this package:

```python
import torch

policy = torch.export.load("one_pass.pt2").module()
actions = policy(observations, actions, valid, steps)
```

It is given the newest T observations [B, T, …] (zeros before an episode's first), the T − 1 actions between
them, which of the T belong to the episode, bool [B, T], and the number of the current step, int64 [B]; T is the
configuration's context length. `torch.export.load` is for files whose origin you know."""


def _data(saved: SavedAgent, summary: Mapping[str, Any]) -> str:
    dataset = summary.get("dataset")
    if not isinstance(dataset, Mapping):
        return f"Data: {saved.config.dataset.name}."
    return (
        f"Data: {dataset.get('id')}, {dataset.get('episodes')} episodes, {dataset.get('steps')} steps, "
        f"mean return {_number(dataset.get('return_mean'))}."
    )


def _returns(saved: SavedAgent, policy: str, summary: Mapping[str, Any]) -> str:
    rows = [
        row
        for row in summary.get("evaluations", ())
        if row.get("policy") == policy and row.get("stage") == saved.stage
    ]
    if not rows:
        return "Its run has not measured this policy at this stage."
    lines = [
        "| environment | measured | episodes | return | 95 % over episodes | score | target-return ratio |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        low, high = row.get("return_ci95") or (None, None)
        interval = f"[{_number(low)}, {_number(high)}]" if (row.get("episodes") or 0) > 1 else "–"
        cells = (
            str(row.get("environment")),
            f"{saved.stage}, by its run",
            str(row.get("episodes")),
            _number(row.get("return_mean")),
            interval,
            _number(row.get("normalized_mean")),
            _number(row.get("target_return_ratio"), "g"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    asked = saved.config.planner.target_return_ratio
    return "\n".join(lines) + f"\n\nHere it asks for the target-return ratio {asked:g}, where it asks for one."


def _interface(task: TaskSpec) -> str:
    if task.frame_shape is not None:
        observation = f"uint8 frames {list(task.frame_shape)}"
    else:
        observation = f"float32 vectors [{task.observation_dim}]"
    if task.is_discrete:
        action = f"numbers among {list(task.valid_actions)}"
    else:
        action = f"float32 vectors [{task.action_dim}] in the environment's own bounds"
    return f"- {task.environment_id}: observations are {observation}; actions are {action}"


def _number(value: Any, form: str = ".1f") -> str:
    return format(value, form) if isinstance(value, int | float) else "–"
