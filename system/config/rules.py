"""What the keys of a configuration must fulfil together; what each may be by itself, its type and range say."""

from system.config.registry import PLANNERS, family_named, planners_for
from system.config.sections import CollectConfig, RunConfig
from system.errors import ConfigError
from system.wording import one_of


def validate(config: object) -> None:
    """Checks what no single field can: raises ConfigError naming the key that does not go with another."""
    if isinstance(config, RunConfig):
        _validate_run(config)
    elif isinstance(config, CollectConfig) and config.policy == "checkpoint" and config.checkpoint is None:
        raise ConfigError("checkpoint: needed when policy is checkpoint")


def _validate_run(config: RunConfig) -> None:
    family, learners = family_named(config.family), max(1, config.learners)
    _validate_planner(config)
    _validate_datasets(config)
    _validate_environment(config)
    for key, size in family.batch_sizes(config).items():
        if size % learners:
            raise ConfigError(f"{key}: {size} is not divisible by learners = {learners}")
    for key, number in (("learners", config.learners), ("rollout_workers", config.rollout_workers)):
        if config.deterministic and number > 1:
            raise ConfigError(f"{key}: {number} with deterministic: true, which allows at most 1")
    least = config.placement.rollout_workers.at_least
    if least is not None and least > max(1, config.rollout_workers):
        raise ConfigError(
            f"placement.rollout_workers.at_least: {least} exceeds rollout_workers = {config.rollout_workers}"
        )
    if config.compile and family.compile is None:
        raise ConfigError(f"compile: family {family.name} has nothing to compile")
    _validate_policies(config.evaluation.policies, tuple(family.policies()))
    for name in config.evaluation.capabilities:
        if not family.capabilities:
            raise ConfigError(f"evaluation.capabilities: family {family.name} has none by name")
        if name not in family.capabilities:
            raise ConfigError(f"evaluation.capabilities: {one_of(name, tuple(family.capabilities))}")
    if not config.evaluation.target_return_ratios:
        raise ConfigError("evaluation.target_return_ratios: at least one ratio is needed")
    family.validate(config)


def _validate_environment(config: RunConfig) -> None:
    environment = config.environment
    references = (environment.reference_min, environment.reference_max)
    if references.count(None) == 1:
        raise ConfigError("environment.reference_min: goes with environment.reference_max; set both or neither")
    if None not in references and not references[0] < references[1]:  # type: ignore[operator]
        low, high = references
        raise ConfigError(f"environment.reference_min: {low:g} is not below environment.reference_max = {high:g}")


def _validate_planner(config: RunConfig) -> None:
    """A planner that can ask the family's models."""
    known = planners_for(family_named(config.family))
    name = config.planner.name
    if name in PLANNERS and name not in known:
        raise ConfigError(
            f"planner.name: {name} does not plan with family {config.family}; {' or '.join(known)} does"
        )
    if name not in known:
        raise ConfigError(f"planner.name: {one_of(name, known)}")


def _validate_datasets(config: RunConfig) -> None:
    """What is begun with, and trained on together."""
    family = family_named(config.family)
    if config.pretrain.from_checkpoint is not None and not family.begins_with_weights:
        raise ConfigError(
            f"pretrain.from_checkpoint: family {family.name} does not begin with another run's weights"
        )
    if config.dataset.file is not None and config.dataset.id is not None:
        raise ConfigError(f"dataset.file: dataset.id names {config.dataset.id} too; only one of them can be set")
    if config.dataset.file is not None and config.dataset.also:
        raise ConfigError("dataset.also: goes with dataset.id, not with dataset.file")
    hidden = config.dataset.hide_actions > 0.0 or config.dataset.hide_rewards > 0.0
    if hidden and config.dataset.incomplete == "refuse":
        raise ConfigError("dataset.incomplete: refuse, with episodes that forget; keep or drop them")
    if config.dataset.incomplete == "keep" and not family.incomplete_data:
        raise ConfigError(f"dataset.incomplete: family {family.name} learns from whole episodes; drop the others")
    if config.dataset.also and not family.several_datasets:
        raise ConfigError(f"dataset.also: family {family.name} is trained on one dataset")
    num_games = 1 + len(config.dataset.also)
    if config.online.env_steps and num_games > max(1, config.rollout_workers):
        raise ConfigError(
            f"rollout_workers: {config.rollout_workers} can't explore the games of {num_games} datasets, since "
            "a worker plays one; online.env_steps: 0 leaves the online stage out"
        )


def _validate_policies(policies: tuple[str, ...], known: tuple[str, ...]) -> None:
    for position, policy in enumerate(policies):
        if policy not in known:
            raise ConfigError(f"evaluation.policies: {one_of(policy, known)}")
        if policy in policies[:position]:
            raise ConfigError(f"evaluation.policies: {policy} is named twice")
