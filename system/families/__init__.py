"""The methods, a folder each: one import makes a family known to everything else.

The first one is that of configurations that name none.
"""
# isort: off

from system.families.masked_trajectory import family as _masked_trajectory  # noqa: F401
from system.families.differentiable import family as _differentiable  # noqa: F401
from system.families.world_action import family as _world_action  # noqa: F401
from system.families.imagination import family as _imagination  # noqa: F401
