"""Beam search over discrete actions: expand the best actions of the best nodes, score, keep the best.

    root        Q(s_0, ·), one node
    expansion   each kept node tries its min(W, valid) best valid actions by Q
    return      G_n = Σ_{t<n} γᵗ r_t + γⁿ Q(s_n, a_n) of n imagined steps: income-to-date plus income-to-go
    score       (1 − λ) Σ_{n<d} λⁿ G_n + λᵈ G_d of a node at depth d, whose a_d is its best action
    pruning     the W best nodes of each environment are kept; after H levels the leaves decide

A node whose episode ended is a leaf: it receives nothing more, has no income-to-go, keeps its place in the beam
for as long as its score earns it, and is not expanded. With W = 1, or without a horizon, the choice is the
action of largest Q; with W ≥ A^H the search is exhaustive. Where only one action can be taken there is nothing to
decide, and nothing is imagined, unless `imagine_without_choice` asks for it.

Source: JOWA section 4.2 "Parallelizable planning at inference time", eq. 12.

With λ = 1 the score is the paper's, G_d alone. The smaller λ, the more Q of states that were really seen counts
against what a poor world model imagines, as in eq. 3 of M³PC; with λ = 0 the choice is greedy again.

Deviations: λ; an end that the model predicts counts (the public code predicts it and ignores it); environments are
searched together; a choice between first actions can be drawn in proportion to their utilities.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch.nn import functional

from system.config import PlannerConfig
from system.decisions import Plan, TokenContext
from system.errors import PlannerError
from system.models.protocols import DiscretePlanningModel
from system.planning.utility import draw_candidate, proposal_probabilities, standardize_utilities


@dataclass(frozen=True)
class _Nodes:
    """W nodes in the search tree of each of B environments, some of them only places: those score −inf.

    Attributes:
        score: as above.
        mixed: the part of it that further steps leave as it is, (1 − λ) Σ_{n<d} λⁿ G_n.
        received: income-to-date, Σ_{t<d} γᵗ r_t.
        terminated: the episode ended here.
        row: the node's row of the model's carry; without meaning where `terminated`.
        values: Q, −inf at invalid actions.
        path: observations from the root to the node.
        actions: executed on the way, −1 behind an end.
        rewards: received for them, 0 behind an end.
    """

    score: Float[torch.Tensor, "B W"]
    mixed: Float[torch.Tensor, "B W"]
    received: Float[torch.Tensor, "B W"]
    terminated: Bool[torch.Tensor, "B W"]
    row: Int[torch.Tensor, "B W"]
    values: Float[torch.Tensor, "B W A"]
    path: Shaped[torch.Tensor, "B W depth1 *observation"]
    actions: Int[torch.Tensor, "B W depth"]
    rewards: Float[torch.Tensor, "B W depth"]

    def take(self, places: Int[torch.Tensor, "B V"]) -> "_Nodes":
        """The nodes in these places."""
        environments = torch.arange(len(places), device=places.device)[:, None]
        return _Nodes(*(getattr(self, field.name)[environments, places] for field in fields(self)))

    def best(self, width: int) -> "_Nodes":
        """The `width` nodes of largest score, best first; of equals the earlier one."""
        return self.take(self.score.argsort(dim=-1, descending=True, stable=True)[:, :width])

    def beside(self, others: "_Nodes") -> "_Nodes":
        """These nodes, then the others."""
        columns = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return _Nodes(*(torch.cat(pair, dim=1) for pair in columns))


@torch.no_grad()
def beam_search(
    model: DiscretePlanningModel,
    context: TokenContext,
    *,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """Plans one decision for each of B environments.

    Args:
        model: steps through imagined futures; values included.
        context: the environments' recent past.
        config: horizon H, beam width W, λ, ξ, the utilities' scale, whether to imagine without a choice, and
            selection: `sample` or `argmax` (of equals the lowest action).
        generator: the only source of randomness.

    Returns:
        A plan whose candidates are the A actions. The utility of one is the score of its best leaf: of all
        nodes made at depth H, and of the ended ones in the beam. It is −inf where there is no such leaf: the
        action is invalid, was never tried, or fell out of the beam on the way. With H = 0, and where there is no
        choice, it is Q itself.
        `imagined_observations` [B, A, H+1, …] is the path to that leaf, the current observation first, its last
        one repeated after an end; zeros where there is no leaf. `imagined_actions` [B, A, H] and
        `imagined_rewards` [B, A, H] are those on the way, −1 and 0 where there are none, and
        `imagined_terminated` [B, A] says whether the last of the actions ended the episode.

    Raises:
        PlannerError: `select` is an expectation (numbers of actions have no mean), an environment has no valid
            action, or the model returned NaN or +inf.
    """
    if config.expects:
        raise PlannerError("planner.select: discrete actions have no expectation; use sample or argmax")
    carry, values = model.begin(context)
    root = _root(values, context.tokens[:, -1])
    utilities, futures = root.values[:, 0], None
    if config.horizon:
        is_decided = (~torch.isneginf(root.values)).sum(dim=-1) == 1
        is_left_out = is_decided & (not config.imagine_without_choice)
        searched = replace(root, score=root.score.masked_fill(is_left_out, -torch.inf))
        scores, leaves = _best_leaves(_leaves(model, carry, searched, config))
        utilities, futures = torch.where(is_left_out, utilities, scores), (leaves, ~torch.isneginf(scores))
    scaled = standardize_utilities(utilities) if config.utility_scale == "standardized" else utilities
    probabilities = proposal_probabilities(scaled, config.temperature)
    sampled = config.select == "sample"
    action = draw_candidate(probabilities, generator) if sampled else utilities.argmax(dim=-1)
    plan = Plan(
        action=action,
        first_actions=torch.arange(utilities.shape[-1], device=action.device).expand(utilities.shape),
        probabilities=probabilities,
        utilities=utilities,
        selected=action,
    )
    return plan if futures is None else _with_futures(plan, *futures)


def _root(values: Float[torch.Tensor, "B A"], observations: Shaped[torch.Tensor, "B *observation"]) -> _Nodes:
    """One node an environment, which is row b of the carry in environment b."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    batch = torch.arange(len(values), device=values.device)[:, None]
    best = values.amax(dim=-1, keepdim=True)
    _check_finite(best)
    return _Nodes(
        score=best,
        mixed=torch.zeros_like(best),
        received=torch.zeros_like(best),
        terminated=torch.zeros_like(best, dtype=torch.bool),
        row=batch,
        values=values[:, None],
        path=observations[:, None, None],
        actions=batch.new_zeros(len(values), 1, 0),
        rewards=best.new_zeros(len(values), 1, 0),
    )


def _leaves(model: DiscretePlanningModel, carry: Any, nodes: _Nodes, config: PlannerConfig) -> _Nodes:
    """Every node there is after H levels, the last of them not pruned."""
    for depth in range(1, config.horizon + 1):
        carry, nodes = _expand(model, carry, nodes.best(config.beam_width), depth, config)
    return nodes


def _expand(
    model: DiscretePlanningModel, carry: Any, nodes: _Nodes, depth: int, config: PlannerConfig
) -> tuple[Any, _Nodes]:
    """The children, at `depth`, of all nodes, and with them the nodes where the episode has ended.

    Only what can be acted in is stepped: one call, with a row for each child of every environment.
    """
    values, actions = nodes.values.sort(dim=-1, descending=True, stable=True)
    open_nodes = ~nodes.terminated & ~torch.isneginf(nodes.score)
    tried = (open_nodes[..., None] & ~torch.isneginf(values))[..., : config.beam_width]
    ended = _waiting(nodes)
    environment, parent, rank = tried.nonzero(as_tuple=True)
    if not len(environment):
        return carry, ended
    taken = actions[environment, parent, rank]
    carry, rewards, terminated, next_values = model.step(carry, nodes.row[environment, parent], taken)
    next_values = next_values.to(nodes.values.dtype)
    before, weight = nodes.received[environment, parent], config.td_lambda ** (depth - 1)
    unseen = before + model.discount ** (depth - 1) * values[environment, parent, rank]
    mixed = nodes.mixed[environment, parent] + (1.0 - config.td_lambda) * weight * unseen
    received = before + model.discount ** (depth - 1) * rewards
    to_go = torch.where(terminated, 0.0, model.discount**depth * next_values.amax(dim=-1))
    _check_finite(received + to_go)
    path, past, gained = (each[environment, parent] for each in (nodes.path, nodes.actions, nodes.rewards))
    children = _Nodes(
        score=_place(mixed + weight * config.td_lambda * (received + to_go), tried, -torch.inf),
        mixed=_place(mixed, tried, 0.0),
        received=_place(received, tried, 0.0),
        terminated=_place(terminated, tried, False),
        row=_place(torch.arange(len(taken), device=taken.device), tried, 0),
        values=_place(next_values, tried, -torch.inf),
        path=_place(torch.cat([path, model.observations(carry)[:, None]], dim=1), tried, 0),
        actions=_place(torch.cat([past, taken[:, None]], dim=1), tried, -1),
        rewards=_place(torch.cat([gained, rewards[:, None].to(gained.dtype)], dim=1), tried, 0.0),
    )
    return carry, children.beside(ended)


def _place(
    entries: Shaped[torch.Tensor, "M *rest"], where: Bool[torch.Tensor, "B W V"], otherwise: float
) -> Shaped[torch.Tensor, "B places *rest"]:
    """Entries laid out in the places that are marked, in order."""
    laid_out = entries.new_full((*where.shape, *entries.shape[1:]), otherwise)
    laid_out[where] = entries
    return laid_out.flatten(1, 2)


def _waiting(nodes: _Nodes) -> _Nodes:
    """The ended nodes one level further down, where they are as good as before; the others are places only."""
    return _Nodes(
        score=nodes.score.masked_fill(~nodes.terminated, -torch.inf),
        mixed=nodes.mixed,
        received=nodes.received,
        terminated=nodes.terminated,
        row=nodes.row,
        values=nodes.values,
        path=torch.cat([nodes.path, nodes.path[:, :, -1:]], dim=2),
        actions=functional.pad(nodes.actions, (0, 1), value=-1),
        rewards=functional.pad(nodes.rewards, (0, 1)),
    )


def _best_leaves(leaves: _Nodes) -> tuple[Float[torch.Tensor, "B A"], _Nodes]:
    """Of each first action the score of its best leaf, −inf where it has none, and that leaf."""
    actions = torch.arange(leaves.values.shape[-1], device=leaves.score.device)
    belongs = leaves.actions[:, None, :, 0] == actions[:, None]
    utilities, best = leaves.score[:, None].masked_fill(~belongs, -torch.inf).max(dim=-1)
    return utilities, leaves.take(best)


def _with_futures(plan: Plan, leaves: _Nodes, reached: Bool[torch.Tensor, "B A"]) -> Plan:
    """The plan, with what led to each first action's best leaf, where that was reached."""
    return replace(
        plan,
        imagined_observations=leaves.path * reached.view(*reached.shape, *(1,) * (leaves.path.dim() - 2)),
        imagined_rewards=leaves.rewards * reached[..., None],
        imagined_actions=leaves.actions.masked_fill(~reached[..., None], -1),
        imagined_terminated=leaves.terminated & reached,
    )


def _check_finite(scores: torch.Tensor) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise PlannerError("the model returned NaN or +inf, or a state without a valid action")
