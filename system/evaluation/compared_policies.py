"""Which policies are set against which: planners against the same model acting without planning."""

from collections.abc import Mapping

STAGES = ("offline", "online")
PLANNERS = ("q_only", "forward_mpc_m", "forward_mpc_q", "beam")
UNPLANNED = ("rcbc_mode", "rcbc_mean", "q_greedy", "clone", "clone_sampled")
CHOSEN_HERE = "best planner and stronger clone are chosen by these episodes: slightly optimistic for the planner"


def pair_planners(means: Mapping[str, float]) -> list[tuple[str, str]]:
    """Each planner of a stage and its rival: the stronger of the policies that do not plan.

    With M³PC that is the stronger of the two readings of the return-conditioned clone, with JOWA of acting on Q
    and, where it is evaluated, imitating. Both the order of the
    planners and the rival are chosen by the very episodes that are then compared.

    Args:
        means: mean return of every policy of the stage; others than planners and their rivals are ignored.

    Returns:
        The best planner first; nothing where there is no planner or no rival.
    """
    planners = sorted((name for name in PLANNERS if name in means), key=lambda name: -means[name])
    rivals = sorted((name for name in UNPLANNED if name in means), key=lambda name: -means[name])
    return [(planner, rivals[0]) for planner in planners] if rivals else []
