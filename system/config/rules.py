"""What the keys of a configuration must fulfil together; what each may be by itself, its type and range say."""

import math

from system.config import CollectConfig, RunConfig
from system.errors import ConfigError
from system.wording import one_of

POLICIES = {
    "m3pc": ("random", "rcbc_mode", "rcbc_mean", "q_only", "forward_mpc_m", "forward_mpc_q", "iql"),
    "jowa": ("random", "clone", "clone_sampled", "q_greedy", "beam"),
}
UNTRAINED_POLICIES: dict[str, tuple[str, ...]] = {
    "jowa": ("clone", "clone_sampled"),
    "clone": ("q_greedy", "beam"),
    "conservative_q": ("clone", "clone_sampled", "beam"),
}
"""Of the world-action family: what would act from outputs that an objective does not train."""


def validate(config: object) -> None:
    """Checks what no single field can: raises ConfigError naming the key that does not go with another."""
    if isinstance(config, RunConfig):
        _validate_run(config)
    elif isinstance(config, CollectConfig) and config.policy == "checkpoint" and config.checkpoint is None:
        raise ConfigError("checkpoint: needed when policy is checkpoint")


def _validate_run(config: RunConfig) -> None:
    learners = max(1, config.learners)
    _validate_sizes(config)
    _validate_pretraining(config)
    batches = {"trajectory": config.trajectory.batch_size, "critic": config.critic.batch_size}
    for key, size in batches.items() if config.algorithm == "m3pc" else (("jowa", config.jowa.batch_size),):
        if size % learners:
            raise ConfigError(f"{key}.batch_size: {size} is not divisible by learners = {learners}")
    for key, number in (("learners", config.learners), ("rollout_workers", config.rollout_workers)):
        if config.deterministic and number > 1:
            raise ConfigError(f"{key}: {number} with deterministic: true, which allows at most 1")
    least = config.placement.rollout_workers.at_least
    if least is not None and least > max(1, config.rollout_workers):
        raise ConfigError(
            f"placement.rollout_workers.at_least: {least} exceeds rollout_workers = {config.rollout_workers}"
        )
    if config.planner.support_threshold > 0.0 and not (config.algorithm == "jowa" and config.jowa.imitates):
        raise ConfigError(
            f"planner.support_threshold: {config.planner.support_threshold:g} needs an output that imitates the "
            "data's actions: algorithm and jowa.objective: jowa, jowa.clone_weight above 0"
        )
    if config.planner.precision != "float32" and config.algorithm != "jowa":
        raise ConfigError(
            f"planner.precision: {config.planner.precision} is for beam search (algorithm: jowa)"
        )
    _validate_policies(config.evaluation.policies, POLICIES[config.algorithm])
    if config.algorithm == "jowa":
        _validate_objective(config)
    if not config.evaluation.target_return_ratios:
        raise ConfigError("evaluation.target_return_ratios: at least one ratio is needed")


def _validate_sizes(config: RunConfig) -> None:
    """Widths, and a plan that fits into the model's window together with the present."""
    section, model = ("world", config.world) if config.algorithm == "jowa" else ("model", config.model)
    if model.width % model.num_heads:
        raise ConfigError(
            f"{section}.width: {model.width} is not divisible by {section}.num_heads = {model.num_heads}"
        )
    longest = model.context_length - (2 if config.algorithm == "jowa" else 0)
    if config.planner.horizon > longest:
        raise ConfigError(
            f"planner.horizon: {config.planner.horizon} exceeds {longest}, "
            f"all that {section}.context_length = {model.context_length} leaves room for"
        )
    if (config.planner.name == "beam_search") != (config.algorithm == "jowa"):
        raise ConfigError(f"planner.name: {config.planner.name} does not plan with algorithm {config.algorithm}")
    if config.algorithm == "jowa" and config.planner.select == "expectation":
        raise ConfigError("planner.select: expectation is for continuous actions; did you mean argmax?")
    if config.algorithm == "jowa" and not config.world.value_low < 0.0 < config.world.value_high:
        raise ConfigError(f"world.value_low: {config.world.value_low} < 0 < world.value_high does not hold")
    if config.dataset.also and config.algorithm != "jowa":
        raise ConfigError("dataset.also: only algorithm jowa is trained on several datasets")
    num_games = 1 + len(config.dataset.also)
    if config.online.env_steps and num_games > max(1, config.rollout_workers):
        raise ConfigError(
            f"rollout_workers: {config.rollout_workers} can't explore the games of {num_games} datasets, since "
            "a worker plays one; online.env_steps: 0 leaves the online stage out"
        )


def _validate_pretraining(config: RunConfig) -> None:
    """Weights to begin with, and windows to imagine in."""
    if config.pretrain.from_checkpoint is not None and config.algorithm != "jowa":
        raise ConfigError("pretrain.from_checkpoint: only algorithm jowa begins with another run's weights")
    training = config.jowa
    if config.algorithm != "jowa" or training.imagined_share == 0.0:
        return
    if training.objective != "jowa":
        raise ConfigError(
            f"jowa.imagined_share: objective {training.objective} has no world model to imagine with"
        )
    if training.imagined_steps > config.world.context_length - 2:
        raise ConfigError(
            f"jowa.imagined_steps: {training.imagined_steps} exceeds {config.world.context_length - 2}, "
            f"all that world.context_length = {config.world.context_length} leaves room for"
        )
    windows = training.batch_size / max(1, config.learners)
    if not math.isclose(training.imagined_share * windows, round(training.imagined_share * windows)):
        raise ConfigError(
            f"jowa.imagined_share: {training.imagined_share:g} of a learner's {windows:g} windows is not whole"
        )


def _validate_policies(policies: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not policies:
        raise ConfigError("evaluation.policies: at least one policy is needed")
    for position, policy in enumerate(policies):
        if policy not in known:
            raise ConfigError(f"evaluation.policies: {one_of(policy, known)}")
        if policy in policies[:position]:
            raise ConfigError(f"evaluation.policies: {policy} is named twice")


def _validate_objective(config: RunConfig) -> None:
    """Nothing may act from outputs that are not trained, neither in evaluation nor to explore."""
    objective = config.jowa.objective
    untrained = () if objective == "jowa" and config.jowa.imitates else UNTRAINED_POLICIES[objective]
    for policy in config.evaluation.policies:
        if policy in untrained:
            cause = "clone_weight: 0" if objective == "jowa" else f"objective: {objective}"
            raise ConfigError(f"evaluation.policies: {policy} acts from outputs that jowa.{cause} does not train")
    explorer = "q_greedy" if config.planner.horizon == 0 else "beam"
    if config.online.env_steps and explorer in untrained:
        raise ConfigError(
            f"online.env_steps: {config.online.env_steps} would be explored by {explorer}, from outputs that "
            f"jowa.objective: {objective} does not train; 0 leaves the online stage out"
        )
