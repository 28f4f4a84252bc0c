"""Which policies are set against which: planners against the same model acting without planning."""

from collections.abc import Mapping

from system.families.registry import policy_traits

STAGES = ("offline", "online")
CHOSEN_HERE = "best planner and stronger clone are chosen by these episodes: slightly optimistic for the planner"


def pair_planners(means: Mapping[str, float]) -> list[tuple[str, str]]:
    """Each planner of a stage and its rival: the stronger of the policies that do not plan.

    Which policies plan and which are rivals, their family says. Both the order of the planners and the rival are
    chosen by the very episodes that are then compared.

    Args:
        means: mean return of every policy of the stage; others than planners and their rivals are ignored.

    Returns:
        The best planner first; nothing where there is no planner or no rival.
    """
    planners = sorted((name for name in means if policy_traits(name).plans), key=lambda name: -means[name])
    rivals = sorted((name for name in means if policy_traits(name).is_rival), key=lambda name: -means[name])
    return [(planner, rivals[0]) for planner in planners] if rivals else []
