"""With which planner, and asking for how much return, the online stage explores."""

from collections.abc import Mapping

from system.config import RunConfig
from system.evaluation.policies import planner_policy_name
from system.evaluation.summary import PLANNERS
from system.training.protocols import Exploration


def choose_exploration(config: RunConfig, curves: Mapping[str, Mapping[str, float]]) -> Exploration:
    """The planner and target-return ratio with the highest mean return on the offline selection episodes.

    Args:
        config: `online.explore_with` says whether to choose among all evaluated planners or to keep the
            configured one and choose its ratio alone.
        curves: `stage/policy` → ratio → mean return on the selection episodes.

    Returns:
        The configured planner and ratio where nothing was evaluated.
    """
    configured = planner_policy_name(config.planner)
    names = PLANNERS if config.online.explore_with == "best" else (configured,)
    scores = {
        (name, float(ratio)): mean for name in names for ratio, mean in curves.get(f"offline/{name}", {}).items()
    }
    if not scores:
        return Exploration(configured, config.planner.target_return_ratio)
    return Exploration(*max(scores, key=lambda pair: scores[pair]))
