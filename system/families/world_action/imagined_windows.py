"""Windows that end in imagined steps: a real past, then what beam search plans and the world model expects of it.

With p real frames and H planned steps, a window reads

    z_0 a_0 r_0 … z_{p−2} a_{p−2} r_{p−2}     as recorded
    z_{p−1} â_{p−1} r̂_{p−1}                    the recorded frame, what is planned there, and the reward expected
    ẑ_p â_p r̂_p … ẑ_{p+H−2} â_{p+H−2} r̂_{p+H−2}
    ẑ_{p+H−1}                                  where the plan leads to, to be bootstrapped from

so that a reward always stands beside the action it is expected for, before the frame that this leads to. Where
the model expects an end, the window ends, in a terminal state. Everything is in the learner's own units: tokens
and signs of rewards.

Deviations from the public code, with the reason: it sets rewards and actions one step off their frames, leaves
images unscaled and never stores an end; windows are imagined anew for every update, not kept in a buffer, so
that they are always the present model's.

Source: JOWA section 4.3 and appendix E.2 (fine-tuning, stage 2).
"""

from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Int

from system.config import PlannerConfig
from system.decisions import Plan, TokenContext
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagination import WorldActionImagination
from system.families.world_action.losses import ImaginedEnds, TokenWindows
from system.families.world_action.model import without_dropout
from system.planning.beam_search import beam_search


def rows_to_imagine(game: Int[torch.Tensor, "B"], share: float) -> Bool[torch.Tensor, "B"]:
    """Which windows of a learner's share of a batch end in imagined steps: evenly spread over those of each game.

    Args:
        game: of each window.
        share: of them; share · B is a whole number.
    """
    places, count = torch.arange(len(game), device=game.device), round(share * len(game))
    chosen = (places + 1) * count // len(game) > places * count // len(game)
    return chosen[game.argsort(stable=True).argsort()]


@torch.no_grad()
def with_imagined_ends(
    agent: WorldActionAgent,
    windows: TokenWindows,
    rows: Bool[torch.Tensor, "B"],
    *,
    num_steps: int,
    planner: PlannerConfig,
    discount: float,
) -> tuple[TokenWindows, ImaginedEnds]:
    """The same windows, some of them with an imagined end.

    Args:
        agent: plans and imagines, without dropout.
        windows: recorded.
        rows: the windows that get an imagined end, at least one.
        num_steps: H, at most T − 2. The past is cut so that the last imagined frame, whose value counts, is not at
            the windows' last step, where no value is learnt.
        planner: beam width; the best path is taken.
        discount: γ of the agent's values.

    Returns:
        The windows, and which of their steps are imagined.
    """
    past, longest = windows.select(rows), windows.valid.shape[1] - 1 - num_steps
    num_real = past.valid.sum(dim=1).clamp_max(longest)
    with without_dropout(agent.model):
        plan = beam_search(
            WorldActionImagination(agent.model, discount, planner.support_threshold),
            _present(agent, past, num_real, longest),
            config=replace(planner, horizon=num_steps, select="argmax", imagine_without_choice=True),
            generator=torch.Generator(agent.device),
        )
    imagined, planned_there = _appended(past, num_real, plan)
    mixed = {field.name: getattr(windows, field.name).clone() for field in fields(windows)}
    for name, values in mixed.items():
        values[rows] = getattr(imagined, name)
    planned = torch.zeros_like(windows.valid)
    planned[rows] = planned_there
    return TokenWindows(**mixed), ImaginedEnds(planned, num_steps)


def _present(
    agent: WorldActionAgent, windows: TokenWindows, num_real: Int[torch.Tensor, "R"], length: int
) -> TokenContext:
    """The first `num_real` frames of each window as histories of `length` frames, the last one current."""
    place = num_real[:, None] - length + torch.arange(length, device=num_real.device)
    valid, rows = place >= 0, torch.arange(len(place), device=place.device)[:, None]
    place = place.clamp_min(0)
    return TokenContext(
        tokens=windows.tokens[rows, place] * valid[..., None],
        actions=(windows.actions[rows, place] * valid)[:, :-1],
        valid=valid,
        game=windows.game,
        valid_actions=agent.valid_actions[windows.game],
    )


def _appended(
    past: TokenWindows, num_real: Int[torch.Tensor, "R"], plan: Plan
) -> tuple[TokenWindows, Bool[torch.Tensor, "R T"]]:
    """Each window's first `num_real` frames, then the best path of its plan; and which actions were planned."""
    rows = torch.arange(len(num_real), device=num_real.device)
    futures = plan.imagined_observations, plan.imagined_actions, plan.imagined_rewards, plan.imagined_terminated
    frames, actions, rewards, ended = (future[rows, plan.action] for future in futures if future is not None)
    num_planned = (actions >= 0).sum(dim=1)
    # Steps since the one planned at: 0 is the first planned action's, 1 that of the first imagined frame.
    since = torch.arange(past.valid.shape[1], device=rows.device) - num_real[:, None] + 1
    planned = (since >= 0) & (since < num_planned[:, None])
    valid = since <= (num_planned - ended.long())[:, None]
    nth = since.clamp(0, actions.shape[1] - 1)
    following = frames[rows[:, None], since.clamp(0, actions.shape[1])]
    windows = TokenWindows(
        tokens=torch.where((since < 1)[..., None], past.tokens, following) * valid[..., None],
        # The last frame's action is not known: nothing is learnt from it.
        actions=torch.where(since < 0, past.actions, actions.gather(1, nth) * planned),
        reward_signs=torch.where(since < 0, past.reward_signs, rewards.gather(1, nth) * planned),
        terminated=planned & ended[:, None] & (since == num_planned[:, None] - 1),
        valid=valid,
        game=past.game,
        returns=torch.where(since < 0, past.returns, 0.0),
        returns_valid=past.returns_valid & (since < 0),
    )
    return windows, planned
