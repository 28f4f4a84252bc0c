"""Beam search written out, one environment and one node at a time: the oracle of the batched one."""

from dataclasses import dataclass
from typing import Any

import torch

from system.decisions import TokenContext
from system.models.protocols import DiscretePlanningModel


@dataclass
class Node:
    """A node and everything that is known of it; `returns` are G_0 … G_d of the way to it."""

    carry: Any
    values: list[float]
    received: float
    returns: list[float]
    path: list[list[int]]
    terminated: bool = False
    first_action: int = -1

    def score(self, td_lambda: float) -> float:
        """The λ-return of the way to it."""
        *early, last = self.returns
        weighted = [(1.0 - td_lambda) * td_lambda**n * each for n, each in enumerate(early)]
        return sum(weighted) + td_lambda ** len(early) * last


@torch.no_grad()
def reference_utilities(
    model: DiscretePlanningModel, context: TokenContext, horizon: int, width: int, td_lambda: float = 1.0
) -> list[list[float]]:
    """Of every environment, the score of each first action's best leaf; −inf where it has none."""
    return [_search(model, one(context, index), horizon, width, td_lambda) for index in range(len(context.tokens))]


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


def _search(
    model: DiscretePlanningModel, context: TokenContext, horizon: int, width: int, td_lambda: float
) -> list[float]:
    carry, values = model.begin(context)
    q = values[0].tolist()
    if horizon == 0:
        return q
    nodes = [Node(carry, q, 0.0, [max(q)], [context.tokens[0, -1].tolist()])]
    for depth in range(1, horizon + 1):
        kept = sorted(nodes, key=lambda node: -node.score(td_lambda))[:width]
        children = [
            child for node in kept if not node.terminated for child in _children(model, node, depth, width)
        ]
        nodes = children + [node for node in kept if node.terminated]
    utilities = [-torch.inf] * len(q)
    for node in nodes:
        utilities[node.first_action] = max(utilities[node.first_action], node.score(td_lambda))
    return utilities


def _children(model: DiscretePlanningModel, node: Node, depth: int, width: int) -> list[Node]:
    valid = [action for action, value in enumerate(node.values) if value > -torch.inf]
    children = []
    for action in sorted(valid, key=lambda action: -node.values[action])[:width]:
        carry, reward, terminated, values = model.step(node.carry, torch.tensor([0]), torch.tensor([action]))
        received = node.received + model.discount ** (depth - 1) * reward.item()
        ended, q = bool(terminated), values[0].tolist()
        taken = node.received + model.discount ** (depth - 1) * node.values[action]
        returns = [*node.returns[:-1], taken, received if ended else received + model.discount**depth * max(q)]
        first = action if node.first_action < 0 else node.first_action
        path = [*node.path, model.observations(carry)[0].tolist()]
        children.append(Node(carry, q, received, returns, path, ended, first))
    return children
