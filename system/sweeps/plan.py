"""From a sweep file to what is tried: the configuration that trials build on, and the space around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from system.config import RunConfig, SweepConfig
from system.config.loading import checked_value, dump_yaml, flatten, load_config, named_modules
from system.config.modules import import_modules
from system.config.strict_yaml import parse_yaml
from system.errors import ConfigError
from system.evaluation.policies import planner_policy_name
from system.planning.registry import planner_named
from system.runs.checkpoint import find_checkpoint
from system.runs.saved_agent import check_same_model, load_run_checkpoint
from system.sweeps.planner_trial import open_planner
from system.sweeps.proposers import Proposer, make_proposer
from system.sweeps.ranking import Point
from system.sweeps.search_space import SearchSpace, apply_point, check_fit, overrides_of, parse_space

SEARCHED = {"planner": ("planner",), "run": (), "online": ()}
"""Sections that a kind of sweep searches; no entry stands for all."""

FIXED = {"planner": ("modules", "planner", "evaluation", "tracking", "device", "precision", "num_threads")}
"""Sections and keys that `set` may hold in a sweep that trains nothing."""

NEVER = ("seed", "modules", "tracking", "planner.name", "family")
"""Not searched: the sweep's own business, or what makes another system of it."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is ready to begin.

    Attributes:
        config: of the sweep.
        base: what every trial builds on, settings of all trials included.
        space: what is searched.
        fixed: settings of all trials.
        origin: the configuration that `base` was made from.
    """

    config: SweepConfig
    base: RunConfig
    space: SearchSpace
    fixed: Point
    origin: RunConfig

    @property
    def seeds(self) -> list[int]:
        """Of the trials of each configuration."""
        return list(range(self.config.seed, self.config.seed + self.config.seeds))

    def fit(self, point: Point) -> RunConfig:
        """The run configuration of a point.

        Raises:
            ConfigError: its values do not go together.
        """
        config = apply_point(self.base, point)
        if config.dataset.also and self.config.kind != "planner":
            raise ConfigError("dataset.also: returns of several games make no score; sweep one of them")
        policy = planner_policy_name(config)
        if self.config.kind != "planner" and policy not in config.evaluation.policies:
            raise ConfigError(f"evaluation.policies: must hold {policy}, the planner by which trials are compared")
        return config

    def proposer(self) -> Proposer:
        """Where configurations come from.

        Raises:
            ConfigError: searcher, number of trials and space do not go together.
        """
        return make_proposer(self.config, self.space, self._fits)

    def best_preset(self, point: Point) -> RunConfig:
        """What `o2o run` is to be given to do as a configuration did.

        Of the settings of a planner sweep only the planner's own are kept; a target-return ratio that was found
        is the only one that reported policies then choose from.
        """
        fixed = {key: value for key, value in self.fixed.items() if key.startswith("planner.")}
        config = apply_point(self.origin, fixed) if self.config.kind == "planner" else self.base
        config = apply_point(config, point)
        if "planner.target_return_ratio" in {**fixed, **point}:
            ratios = (config.planner.target_return_ratio,)
            config = replace(config, evaluation=replace(config.evaluation, target_return_ratios=ratios))
        return config

    def _fits(self, point: Point) -> bool:
        try:
            self.fit(point)
        except ConfigError:
            return False
        return True


def load_sweep(source: str, overrides: Sequence[str], *, sweeps: Path, presets: Path) -> SweepConfig:
    """The sweep's configuration from its file and the command line.

    Args:
        source: a file, or the name of one of `sweeps`.
        overrides: `key=value` each, of the sweep or of the run configuration; a key that is given a value is
            no longer searched.
        sweeps: folder of the sweeps that names stand for.
        presets: folder of the run configurations.

    Returns:
        The configuration, after the import of every module that it, the run configuration or an override names;
        a checkpoint in it is one checkpoint, whatever comes after it in its run.

    Raises:
        ConfigError: names the key.
        CheckpointError: there is no such checkpoint.
    """
    own = {field.name for field in fields(SweepConfig)}
    of_sweep = [each for each in overrides if each.partition("=")[0].strip().split(".")[0] in own]
    config = load_config(SweepConfig, source, of_sweep, presets=sweeps)
    given = flatten(config.set)
    for override in (each for each in overrides if each not in of_sweep):
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override}: expected key.path=value")
        given[key.strip()] = parse_yaml(text, name=f"--set {key.strip()}")
    if config.config is not None:
        import_modules(named_modules(config.config, presets=presets))
    import_modules(_checked("modules", given.get("modules", [])))
    fixed = {key: _checked(key, value) for key, value in given.items()}
    space = _still_searched(config.space, fixed)
    checkpoint = config.checkpoint and str(find_checkpoint(Path(config.checkpoint)).resolve())
    return replace(config, checkpoint=checkpoint, set=fixed, space=space)


def _still_searched(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Without keys that are given a value, and without those that are never drawn beside these values."""
    gone, searched = set(fixed), dict(space)
    while True:
        left = {}
        for key, tree in searched.items():
            conditions = tree.get("when") if isinstance(tree, Mapping) else None
            if key in gone:
                continue
            if not isinstance(conditions, Mapping):
                left[key] = tree
                continue
            rest = {
                other: allowed
                for other, allowed in conditions.items()
                if not (other in fixed and _allows(allowed, fixed[other]))
            }
            if not gone & rest.keys():
                left[key] = {**tree, "when": rest}
        if len(left) == len(searched):
            return left
        gone, searched = gone | (searched.keys() - left.keys()), left


def _allows(allowed: Any, value: Any) -> bool:
    return value in allowed if isinstance(allowed, list | tuple) else value == allowed


def plan_sweep(config: SweepConfig, *, presets: Path) -> SweepPlan:
    """Checks a sweep as a whole.

    Args:
        config: of the sweep.
        presets: folder of the run configurations.

    Raises:
        ConfigError: keys do not go together, or a value never fits; names them.
        CheckpointError: the checkpoint is damaged, or not of a run.
    """
    _check_kind(config)
    space = parse_space(config.space)
    for key in space.keys:
        _check_searched(key, config.kind)
    fixed = dict(config.set)
    if config.kind == "planner":
        allowed = FIXED["planner"]
        for key in fixed:
            if not key.startswith(tuple(f"{part}." for part in allowed)) and key not in allowed:
                raise ConfigError(f"set.{key}: a planner sweep trains nothing; {', '.join(allowed)} can be set")
        origin = open_planner(Path(str(config.checkpoint)), {}).config
        base = apply_point(origin, fixed)
    else:
        origin = load_config(RunConfig, config.config, (), presets=presets)
        base = load_config(RunConfig, config.config, overrides_of(fixed), presets=presets)
        if config.checkpoint is not None:
            path = Path(config.checkpoint)
            check_same_model(path, load_run_checkpoint(path), base)
        if config.scheduler == "asha" and base.online.env_steps == 0:
            raise ConfigError("scheduler: asha judges by online evaluations, and online.env_steps is 0")
    for key in (f"planner.{name}" for name in planner_named(base.planner.name).ignores):
        for searched in (each for each in space.keys if each == key or each.startswith(f"{key}.")):
            raise ConfigError(f"space.{searched}: {base.planner.name} does not read it")
    plan = SweepPlan(config, base, space, fixed, origin)
    check_fit(space, plan.fit, config.seed)
    return plan


def preset_text(config: RunConfig, comments: Sequence[str]) -> str:
    """A configuration as a file, under some lines of comment."""
    return "".join(f"# {line}\n" for line in comments) + dump_yaml(config)


def _check_kind(config: SweepConfig) -> None:
    needed = {"planner": ("checkpoint",), "run": ("config",), "online": ("config", "checkpoint")}[config.kind]
    for key in ("checkpoint", "config"):
        given = getattr(config, key) is not None
        if given and key not in needed:
            raise ConfigError(f"{key}: does not go with kind {config.kind}")
        if not given and key in needed:
            raise ConfigError(f"{key}: needed with kind {config.kind}, for example --set {key}=…")
    if config.kind == "planner" and config.scheduler != "none":
        raise ConfigError(f"scheduler: {config.scheduler} stops training, and a planner sweep trains nothing")


def _check_searched(key: str, kind: str) -> None:
    sections = SEARCHED[kind]
    if sections and key.split(".")[0] not in sections:
        raise ConfigError(f"space.{key}: a {kind} sweep trains nothing; it searches {', '.join(sections)} alone")
    if key in NEVER or key.split(".")[0] in NEVER:
        raise ConfigError(f"space.{key}: cannot be searched" + ("; see seeds" if key == "seed" else ""))
    if kind == "online" and key.split(".")[0] == "pretrain":
        raise ConfigError(f"space.{key}: an online sweep starts from a checkpoint, after pretraining")


def _checked(key: str, value: Any) -> Any:
    checked = checked_value(RunConfig, key, value)
    return list(checked) if isinstance(checked, tuple) else checked
