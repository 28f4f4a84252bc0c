"""Keys of planners that follow the gradient of an imagined return (`planner.ascent`)."""

from dataclasses import dataclass

from system.config.fields import setting


@dataclass(frozen=True)
class AscentConfig:
    """How far a decision moves what it ascends with, and what keeps it from going wrong."""

    steps: int = setting(1, low=0, high=1000, doc="E, ascent steps of a decision; 0 leaves everything as it was")
    rate: float = setting(
        1e-3, low=0.0, high=1e3, doc="η, of a step; parameters of policies bear less than actions do"
    )
    num_noise: int = setting(64, low=1, high=100_000, doc="M, noise sequences that the return is a mean over")
    persistent: bool = setting(
        False, doc="go on from where the last decision of the episode arrived; false begins anew at each"
    )
    gradient_clip: float = setting(
        0.0, low=0.0, doc="largest norm of a gradient, which is cut to it; 0: none is cut"
    )
    trust_region: float = setting(
        2.0, low=0.0, high=2.0, doc="largest change of any part of an action, of [-1, 1]; 2: any"
    )
    critic_pessimism: float = setting(
        1.0, low=0.0, high=100.0, doc="k of mean - k standard deviations over the critics; 1 of two is the smaller"
    )
    model_pessimism: float = setting(
        0.0, low=0.0, high=100.0, doc="k of the same over the returns in the members of an ensemble of models"
    )
    uncertainty_penalty: float = setting(
        0.0, low=0.0, high=1e6, doc="reward taken off for what members of an ensemble differ by beyond their noise"
    )
    accept_only_better: bool = setting(
        True, doc="keep a change only where the return rises on noise that it was not made with"
    )
    exploration_noise: float = setting(
        0.1, low=0.0, high=2.0, doc="standard deviation added to actions where exploration draws"
    )
    recompute: bool = setting(
        False, doc="keep no step's intermediate results for the gradient: less memory, a third more work"
    )
