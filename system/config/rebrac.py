"""Keys of the value learner ReBRAC, a section of families that learn with it."""

from dataclasses import dataclass

from system.config.fields import setting


@dataclass(frozen=True)
class ReBRACConfig:
    """A deterministic policy and its critics, both kept near the data."""

    hidden_width: int = setting(256, low=8, high=8192, doc="of policy and critics")
    hidden_layers: int = setting(3, low=1, high=16)
    num_critics: int = setting(2, low=1, high=32, doc="ensemble members E; the minimum is bootstrapped")
    layer_norm: bool = setting(True, doc="in the critics")
    batch_size: int = setting(256, low=1, doc="transitions a step, over all learners")
    learning_rate: float = setting(1e-3, low=0.0, high=1.0, doc="of policy and critics")
    target_update_rate: float = setting(5e-3, low=0.0, high=1.0, doc="Polyak step of both targets")
    actor_penalty: float = setting(0.05, low=0.0, doc="β1, of the policy's distance from the data's actions")
    critic_penalty: float = setting(0.1, low=0.0, doc="β2, of the next action's distance, in the target")
    target_noise: float = setting(0.2, low=0.0, high=2.0, doc="standard deviation, of the target's next action")
    target_noise_clip: float = setting(0.5, low=0.0, high=2.0, doc="largest such noise")
    actor_period: int = setting(2, low=1, high=1000, doc="critic updates for each of policy and targets")
    updates_per_step: int = setting(1, low=1, doc="critic updates per update step of the world model")
