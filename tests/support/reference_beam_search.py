"""Beam search written out, one environment and one node at a time: the oracle of the batched one."""

from dataclasses import dataclass
from typing import Any

import torch

from system.decisions import TokenContext
from system.models.protocols import DiscretePlanningModel


@dataclass
class Node:
    """A node and everything that is known of it; `score` is what it is ranked by."""

    carry: Any
    values: list[float]
    received: float
    score: float
    path: list[list[int]]
    terminated: bool = False
    first_action: int = -1


@torch.no_grad()
def reference_utilities(
    model: DiscretePlanningModel, context: TokenContext, horizon: int, width: int
) -> list[list[float]]:
    """Of every environment, the score of each first action's best leaf; −inf where it has none."""
    return [_search(model, one(context, index), horizon, width) for index in range(len(context.tokens))]


def one(context: TokenContext, index: int) -> TokenContext:
    """One environment of a context."""
    rows = slice(index, index + 1)
    return TokenContext(
        context.tokens[rows],
        context.actions[rows],
        context.valid[rows],
        context.game[rows],
        context.valid_actions[rows],
    )


def _search(model: DiscretePlanningModel, context: TokenContext, horizon: int, width: int) -> list[float]:
    carry, values = model.begin(context)
    q = values[0].tolist()
    if horizon == 0:
        return q
    nodes = [Node(carry, q, 0.0, max(q), [context.tokens[0, -1].tolist()])]
    for depth in range(1, horizon + 1):
        kept = sorted(nodes, key=lambda node: -node.score)[:width]
        children = [
            child for node in kept if not node.terminated for child in _children(model, node, depth, width)
        ]
        nodes = children + [node for node in kept if node.terminated]
    utilities = [-torch.inf] * len(q)
    for node in nodes:
        utilities[node.first_action] = max(utilities[node.first_action], node.score)
    return utilities


def _children(model: DiscretePlanningModel, node: Node, depth: int, width: int) -> list[Node]:
    valid = [action for action, value in enumerate(node.values) if value > -torch.inf]
    children = []
    for action in sorted(valid, key=lambda action: -node.values[action])[:width]:
        carry, reward, terminated, values = model.step(node.carry, torch.tensor([0]), torch.tensor([action]))
        received = node.received + model.discount ** (depth - 1) * reward.item()
        ended, q = bool(terminated), values[0].tolist()
        score = received if ended else received + model.discount**depth * max(q)
        first = action if node.first_action < 0 else node.first_action
        path = [*node.path, model.observations(carry)[0].tolist()]
        children.append(Node(carry, q, received, score, path, ended, first))
    return children
