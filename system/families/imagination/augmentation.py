"""What the learner is given of what was imagined, and how sure the model must be for it."""

from collections.abc import Mapping

import torch

from system.config import RunConfig
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.imagined_windows import ImaginedWindows, windows_of
from system.families.imagination.imagining import reliable_disagreement


def begin(agent: ImaginationAgent, data: PreparedData, config: RunConfig) -> dict[str, torch.Tensor]:
    """Sets κ by the newest world model.

    Args:
        agent: that will imagine; takes κ over.
        data: whose held-out episodes are looked at, or all of them where none is held out.
        config: the run's.

    Returns:
        κ, named for a learner's state.
    """
    held_out = data.validation if data.validation.num_steps else data.training
    threshold = torch.tensor(reliable_disagreement(agent, held_out, config.method.augmentation.reliable_quantile))
    agent.reliable_disagreement.copy_(threshold)
    return {"agent.reliable_disagreement": threshold}


def take_in(
    state: Mapping[str, torch.Tensor],
    agent: ImaginationAgent,
    store: EpisodeStore,
    rollouts: ImaginedRollouts,
    config: RunConfig,
) -> dict[str, torch.Tensor]:
    """The imagined windows of a learner's state, with new ones behind them; the newest are kept, as many as there
    were of the first set.

    Args:
        state: of the learner.
        agent: that imagined.
        store: from whose episodes.
        rollouts: what it imagined.
        config: the run's.
    """
    known = ImaginedWindows.of_state(state)
    new = windows_of(agent, store, rollouts, config.context_length, config.discount)
    return known.followed_by(new, most=len(known) or len(new)).state()
