"""Windows of tokens, and every term of the world-action model's losses on them.

Each term is a sum over the steps that count, divided by B·T (of next tokens by B·(T·K − 1)): padding counts in
the divisor, so that the average over learners with equal shares of a batch is the whole batch's.

Source: JOWA eqs. 4, 8 and 9.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.categorical_value import expected_value, project_distribution
from system.families.world_action.model import WorldActionModel, left_aligned, without_dropout
from system.types import SegmentBatch

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TokenWindows:
    """B windows of T steps, aligned on the left, as the world-action model reads them.

    Attributes:
        tokens, actions: zeros where not `valid`.
        reward_signs: −1, 0 or 1.
        terminated: the step reached a terminal state.
        valid: True, then False, along each window.
        game: of each window.
        returns: discounted sum of reward signs from each step on; 0 where it is not `returns_valid`.
        returns_valid: the step's return is known: its episode is complete, and nothing of it imagined.
    """

    tokens: Int[torch.Tensor, "B T K"]
    actions: Int[torch.Tensor, "B T"]
    reward_signs: Float[torch.Tensor, "B T"]
    terminated: Bool[torch.Tensor, "B T"]
    valid: Bool[torch.Tensor, "B T"]
    game: Int[torch.Tensor, "B"]
    returns: Float[torch.Tensor, "B T"]
    returns_valid: Bool[torch.Tensor, "B T"]

    @classmethod
    def of(cls, segments: SegmentBatch, device: torch.device) -> "TokenWindows":
        """Windows on a device, from segments."""
        valid = torch.tensor(segments.valid, device=device)

        def aligned(array: np.ndarray) -> torch.Tensor:
            return left_aligned(torch.tensor(array, device=device), valid)

        return cls(
            tokens=aligned(segments.observations).long(),
            actions=aligned(segments.actions).long(),
            reward_signs=aligned(segments.rewards).sign(),
            terminated=aligned(segments.terminated),
            valid=aligned(segments.valid),
            game=torch.tensor(segments.game, device=device),
            returns=aligned(segments.returns_to_go * segments.returns_valid),
            returns_valid=aligned(segments.returns_valid),
        )

    def select(self, rows: Bool[torch.Tensor, "B"]) -> "TokenWindows":
        """Some of the windows."""
        return TokenWindows(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class ImaginedEnds:
    """Which steps of B windows are imagined (`system.families.world_action.imagined_windows`).

    Attributes:
        planned: steps whose action was planned; all of them in some of the windows, `num_steps` in each of these
            unless the model expects an end.
        num_steps: H.
    """

    planned: Bool[torch.Tensor, "B T"]
    num_steps: int

    @property
    def windows(self) -> Bool[torch.Tensor, "B"]:
        """The windows with an imagined end."""
        return self.planned.any(dim=1)


@dataclass(frozen=True)
class Backups:
    """How the return of each step is made up from what follows it.

    Attributes:
        rewards: Σ_{k<n} γᵏ r_{t+k}.
        discounts: γⁿ of the state bootstrapped from; 0 where the sum reaches a terminal state.
        states: index t + n of that state, in the same window.
        known: the window says enough: it is not cut right behind the step.
    """

    rewards: Float[torch.Tensor, "B T"]
    discounts: Float[torch.Tensor, "B T"]
    states: Int[torch.Tensor, "B T"]
    known: Bool[torch.Tensor, "B T"]


def backups(windows: TokenWindows, discount: float, num_steps: int) -> Backups:
    """n-step backups, shorter at a window's end; a cut window is bootstrapped from, a terminal state is not.

    Args:
        windows: B windows of T steps.
        discount: γ.
        num_steps: n ≥ 1.
    """
    length = windows.valid.shape[1]
    steps = torch.arange(length, device=windows.valid.device)
    num_valid = windows.valid.sum(dim=1, keepdim=True)
    is_terminal = (windows.terminated & windows.valid).any(dim=1, keepdim=True)
    reached = torch.minimum(steps + num_steps, num_valid - 1 + is_terminal.long())
    rewards = torch.zeros_like(windows.reward_signs)
    for ahead in range(min(num_steps, length)):
        later = functional.pad(windows.reward_signs[:, ahead:], (0, ahead))
        rewards = rewards + discount**ahead * later * (steps + ahead < reached)
    powers = discount ** (reached - steps).to(rewards.dtype)
    return Backups(
        rewards=rewards,
        discounts=powers * (reached < num_valid),
        states=reached.clamp(0, length - 1),
        known=windows.valid & (reached > steps),
    )


def world_losses(
    model: WorldActionModel, hidden: Float[torch.Tensor, "B T K1 D"], windows: TokenWindows
) -> Losses:
    """Cross-entropies of next frame tokens, reward signs and ends (eq. 8), without padding, divided as if full.

    Args:
        model: whose heads predict.
        hidden: its outputs.
        windows: what it read.
    """
    _, length, per_frame = windows.tokens.shape
    places = torch.arange(length * (per_frame + 1), device=hidden.device).unflatten(0, (length, -1))
    predictors = places[:, :per_frame].flatten()[1:] - 1
    before = torch.cat([torch.full_like(windows.tokens[:, :1], -1), windows.tokens[:, :-1]], dim=1)
    token_errors = model.token_head.errors(
        hidden.flatten(1, 2)[:, predictors], before.flatten(1)[:, 1:], windows.tokens.flatten(1)[:, 1:]
    )
    valid_tokens = windows.valid.repeat_interleave(per_frame, dim=1)[:, 1:]
    at_actions = hidden[:, :, per_frame]
    reward_errors = functional.cross_entropy(
        model.reward_logits(at_actions).flatten(0, 1), windows.reward_signs.long().flatten() + 1, reduction="none"
    )
    end_errors = functional.cross_entropy(
        model.end_logits(at_actions).flatten(0, 1), windows.terminated.long().flatten(), reduction="none"
    )
    valid_steps = windows.valid.flatten()
    return {
        "token": (token_errors * valid_tokens).mean(),
        "reward": (reward_errors * valid_steps).mean(),
        "end": (end_errors * valid_steps).mean(),
    }


def value_losses(
    agent: WorldActionAgent,
    features: Float[torch.Tensor, "B T D"],
    target_features: Float[torch.Tensor, "B T D"],
    windows: TokenWindows,
    plan: Backups,
    imagined: ImaginedEnds | None = None,
    *,
    return_share: float = 0.0,
    support_threshold: float = 0.0,
) -> Losses:
    """Distributional TD error, the penalty of CQL (eq. 9) or COMBO (eq. 4), and the mean Q of what was done.

    Args:
        agent: whose heads value actions.
        features: outputs at every frame's last token.
        target_features: the same without dropout and gradient.
        windows: B windows of T steps.
        plan: their backups.
        imagined: where some windows end in imagined steps: COMBO's penalty is for these; None asks for CQL's.
        return_share: m of a target that is (1 − m) backed up and m the return that was received, where known.
        support_threshold: τ of the actions among which the best next one is chosen.
    """
    support = agent.model.q_head.support
    valid_actions = agent.valid_actions[windows.game][:, None]
    with torch.no_grad(), without_dropout(agent.model):
        considered = agent.model.considered_actions(target_features, valid_actions, support_threshold)
        target = _target_distribution(agent, target_features, considered, plan)
    target = _with_received(target, windows, return_share, support)
    log_probabilities = agent.model.q_head(features)
    taken = windows.actions[..., None]
    chosen = log_probabilities.take_along_dim(taken[..., None], dim=2)[:, :, 0]
    td_errors = -(target * chosen).sum(dim=-1)
    q_values = expected_value(log_probabilities, support)
    q_taken = q_values.take_along_dim(taken, dim=2)[..., 0]
    known = plan.known.float()
    if imagined is None:
        soft_best = q_values.masked_fill(~valid_actions, float("-inf")).logsumexp(dim=-1)
        conservative = ((soft_best - q_taken) * known).mean()
    else:
        conservative = imagined_excess(q_taken, plan.known, imagined)
    return {
        "td": (td_errors * known).mean(),
        "conservative": conservative,
        "q_mean": (q_taken.detach() * known).sum() / known.sum().clamp_min(1.0),
    }


def imagined_excess(
    q_taken: Float[torch.Tensor, "B T"], known: Bool[torch.Tensor, "B T"], imagined: ImaginedEnds
) -> Float[torch.Tensor, ""]:
    """COMBO's penalty: mean Q where the present policy acted in imagination, less mean Q of the data's actions,
    times the share of the batch that is planned.

    A window with an imagined end counts as imagination, by its planned steps; its real past counts as neither.
    Divisors count padding and what an early end leaves out, so that learners' averages are exact; of a window of
    data they leave out the last step, which has no next state to learn from.

    The share makes α the weight κ of a planned step's Q beside its TD error; that of a step of data is smaller.
    TD's cross-entropy holds against it while κ times the distance from Q to the end of the support is below 1;
    otherwise mass moves to that end until Q is 1/κ away from it. As plain means, of 8 planned steps in a batch of
    128, α = 0.1 would be a κ of 1.6, and values of planned actions end up at the bottom.

    Args:
        q_taken: Q of each step's action.
        known: steps with a TD target.
        imagined: which windows and steps are imagined; some of the windows, not all.

    Source: JOWA eq. 4 (COMBO).
    """
    num_imagined = imagined.windows.sum()
    num_data = len(q_taken) - num_imagined
    from_data = known & ~imagined.windows[:, None]
    num_planned = num_imagined * imagined.num_steps
    ratio = num_planned / (num_data * (q_taken.shape[1] - 1))
    return ((q_taken * imagined.planned).sum() - ratio * (q_taken * from_data).sum()) / q_taken.numel()


def clone_loss(
    agent: WorldActionAgent, features: Float[torch.Tensor, "B T D"], windows: TokenWindows
) -> Float[torch.Tensor, ""]:
    """Cross-entropy of the data's actions among those that the game knows."""
    valid_actions = agent.valid_actions[windows.game][:, None]
    logits = agent.model.clone_logits(features).masked_fill(~valid_actions, float("-inf"))
    # Padding has action 0, which a game may not know: its infinite error must be left out, not multiplied by 0.
    actions = windows.actions.masked_fill(~windows.valid, -1)
    errors = functional.cross_entropy(logits.flatten(0, 1), actions.flatten(), reduction="sum", ignore_index=-1)
    return errors / actions.numel()


def _with_received(
    target: Float[torch.Tensor, "B T Z"], windows: TokenWindows, share: float, support: Float[torch.Tensor, "Z"]
) -> Float[torch.Tensor, "B T Z"]:
    """(1 − m)·target + m·δ(what the episode received from the step on), where that is known."""
    if share == 0.0:
        return target
    received = project_distribution(target, windows.returns, torch.zeros_like(windows.returns), support)
    return torch.where(windows.returns_valid[..., None], (1.0 - share) * target + share * received, target)


def _target_distribution(
    agent: WorldActionAgent,
    features: Float[torch.Tensor, "B T D"],
    considered: Bool[torch.Tensor, "B T1 A"],
    plan: Backups,
) -> Float[torch.Tensor, "B T Z"]:
    """Distribution of each step's backed-up return; anything where it is not known."""
    q_values = agent.model.q_values(features).masked_fill(~considered, float("-inf"))
    best = q_values.argmax(dim=-1)[..., None, None]
    valued = agent.target_head(features).take_along_dim(best, dim=2)[:, :, 0].exp()
    later = valued.take_along_dim(plan.states[..., None], dim=1)
    return project_distribution(later, plan.rewards, plan.discounts, agent.model.q_head.support)
