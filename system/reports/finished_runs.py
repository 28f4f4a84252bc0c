"""Finished runs, read back from their summary.json, and what was measured of checkpoints since: checked field by
field, and grouped by configuration."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from system.config import RunConfig
from system.config.loading import config_from_dict, flatten, to_dict
from system.documents.json_fields import JsonFields
from system.errors import ConfigError, DataError
from system.evaluation.compared_policies import STAGES

FILE = "summary.json"
TRIALS = "trials"
"""Of a sweep, the folder that its trials are run directories in."""
MAX_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class PolicyRecord:
    """What one policy did in one stage of one run.

    Attributes:
        target_return_ratio: what it asked for; None if it asks for nothing.
        returns: undiscounted, by evaluation seed; episodes lost to environment errors are missing.
        decision_ms: median time of a decision; None if it was not timed.
    """

    target_return_ratio: float | None
    returns: dict[int, float]
    decision_ms: float | None


@dataclass(frozen=True)
class PredictionRecord:
    """How well one thing was predicted in one run.

    Attributes:
        errors: in variances of the data, one to so many steps ahead.
        episodes: held-out ones that it was measured on.
    """

    errors: tuple[float, ...]
    episodes: int


@dataclass(frozen=True)
class FinishedRun:
    """One run in one environment.

    Attributes:
        file: its summary.json, or what `o2o evaluate --output` wrote.
        config: as it ran.
        environment: its id; empty in older summaries.
        alone: the run was measured in no other environment.
        dataset_id, dataset_digest: the digest is empty in summaries that do not have it.
        dataset_mean, dataset_best: returns of the dataset's episodes; of all games together where not alone; None
            of what was measured by itself.
        references: returns scored 0 and 100; None if unknown.
        records: by stage and policy.
        schedule: {env_steps, mean, low, high} of the scheduled evaluations; empty where not alone.
        capabilities: what was predicted, by stage, capability and its name; empty where none was measured.
    """

    file: Path
    config: RunConfig
    environment: str
    alone: bool
    dataset_id: str
    dataset_digest: str
    dataset_mean: float | None
    dataset_best: float | None
    references: tuple[float, float] | None
    records: dict[tuple[str, str], PolicyRecord]
    schedule: list[dict[str, float]]
    capabilities: dict[tuple[str, str, str], PredictionRecord]

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.config.seed

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted key, without the seed.

        Weights to begin with may be those of another run with the same seed, `runs/NAME-0` for seed 0: such runs
        have the same settings, `runs/NAME-SEED`.
        """
        settings = {key: value for key, value in flatten(to_dict(self.config)).items() if key != "seed"}
        origin = settings["pretrain.from_checkpoint"]
        if origin is not None:
            settings["pretrain.from_checkpoint"] = re.sub(rf"-{self.seed}(?=/|$)", "-SEED", origin)
        return settings


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        runs: by seed, in order.
        setting: where they differ from the other groups of the same dataset; empty if there are none.
    """

    runs: list[FinishedRun]
    setting: str = ""

    @property
    def name(self) -> str:
        """The dataset's id; of several games together also the environment's."""
        run = self.runs[0]
        return run.dataset_id if run.alone else f"{run.dataset_id}: {run.environment}"

    @property
    def unit(self) -> str:
        """`score` where references make returns normalised scores, else `return`."""
        return "return" if self.runs[0].references is None else "score"

    def score(self, value: float, *, difference: bool = False) -> float:
        """A return in the group's unit, by the first run's references."""
        if self.runs[0].references is None:
            return value
        low, high = self.runs[0].references
        return 100.0 * (value - (0.0 if difference else low)) / (high - low)

    def policies(self) -> list[str]:
        """Names of all evaluated policies, in the order of the runs."""
        return list(dict.fromkeys(policy for run in self.runs for _, policy in run.records))


def load_runs(path: Path) -> list[FinishedRun]:
    """Reads a run's summary, those of a sweep's trials, or what was measured of a checkpoint.

    Args:
        path: of the run directory, of the sweep's, or of the file itself.

    Returns:
        What each run did in each of its environments; nearly always there is one.

    Raises:
        DataError: a file is missing, damaged or something else; names the file and the place in it.
    """
    if not (path / TRIALS).is_dir():
        return _load_run(path)
    trials = sorted(each.parent for each in (path / TRIALS).glob(f"*/{FILE}"))
    if not trials:
        raise DataError(f"{path / TRIALS}: no trial of this sweep is a finished run")
    return [run for trial in trials for run in _load_run(trial)]


def _load_run(path: Path) -> list[FinishedRun]:
    file = path / FILE if path.is_dir() else path
    fields = JsonFields(file, _read_json(file))
    try:
        config = config_from_dict(RunConfig, fields.section("config").values)
    except (ConfigError, RecursionError) as error:
        raise DataError(f"{file}: config: {error}") from None
    if fields.integer("seed") != config.seed:
        raise DataError(f"{file}: seed: {fields.integer('seed')} is not config.seed = {config.seed}")
    entries: dict[str, list[JsonFields]] = {}
    for entry in fields.sections("evaluations"):
        entries.setdefault(entry.text("environment") if "environment" in entry.values else "", []).append(entry)
    if not entries:
        raise DataError(f"{file}: evaluations: none yet; the run has not come to its first evaluation")
    dataset, alone = fields.section("dataset"), len(entries) == 1
    return [
        FinishedRun(
            file=file,
            config=config,
            environment=environment,
            alone=alone,
            dataset_id=dataset.text("id"),
            dataset_digest=dataset.text("digest") if "digest" in dataset.values else "",
            dataset_mean=dataset.number_or_none("return_mean"),
            dataset_best=dataset.number_or_none("return_max"),
            references=_references(members[0] if "reference_min" in members[0].values else dataset),
            records=_policy_records(members),
            schedule=_schedule(fields) if alone else [],
            capabilities=_capabilities(fields),
        )
        for environment, members in entries.items()
    ]


def group_runs(runs: Sequence[FinishedRun]) -> list[Group]:
    """Runs of the same environment, dataset and configuration but for the seed, together.

    Raises:
        DataError: two runs of a group have the same seed.
    """
    groups: dict[str, dict[int, FinishedRun]] = {}
    for run in runs:
        key = json.dumps([run.environment, run.dataset_id, run.dataset_digest, run.settings], sort_keys=True)
        members = groups.setdefault(key, {})
        if run.seed in members:
            raise DataError(f"{run.file}: has the seed {run.seed} of {members[run.seed].file}")
        members[run.seed] = run
    found = [[members[seed] for seed in sorted(members)] for members in groups.values()]
    return [Group(members, _setting(members[0], [others[0] for others in found])) for members in found]


def _setting(run: FinishedRun, representatives: Sequence[FinishedRun]) -> str:
    """What tells a run's group from the other groups of its dataset, as `key = value`."""
    place = (run.dataset_id, run.environment)
    rivals = [each for each in representatives if (each.dataset_id, each.environment) == place]
    parts = [
        f"{key} = {value}"
        for key, value in run.settings.items()
        if any(each.settings.get(key) != value for each in rivals)
    ]
    if any(each.dataset_digest != run.dataset_digest for each in rivals):
        parts.append(f"dataset digest {run.dataset_digest[:8] or 'unknown'}")
    return ", ".join(parts)


def _read_json(file: Path) -> Any:
    try:
        if not file.is_file():
            raise DataError(_nothing_to_read(file))
        if file.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{file}: larger than {MAX_FILE_BYTES} bytes: not the summary of a finished run")
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not the summary of a finished run ({type(error).__name__}: {error})") from None


def _nothing_to_read(file: Path) -> str:
    """Why there is no summary, as far as that can be seen."""
    if file.name != FILE:
        return f"{file}: no such run directory"
    return f"{file}: no such file; the run is unfinished, or {file.parent} is no run directory"


def _policy_records(entries: Sequence[JsonFields]) -> dict[tuple[str, str], PolicyRecord]:
    records: dict[tuple[str, str], PolicyRecord] = {}
    for entry in entries:
        key, record = _policy_record(entry)
        if key in records:
            raise entry.refusal("policy", f"{key[1]} is listed twice in the stage {key[0]}")
        records[key] = record
    return records


def _policy_record(entry: JsonFields) -> tuple[tuple[str, str], PolicyRecord]:
    stage, policy = entry.name("stage"), entry.name("policy")
    if stage not in STAGES:
        raise entry.refusal("stage", f"is none of {', '.join(STAGES)}")
    seeds, returns = entry.integers("seeds"), entry.numbers("returns")
    if len(seeds) != len(returns) or len(set(seeds)) != len(seeds):
        raise entry.refusal("seeds", f"are {len(set(seeds))} different ones for {len(returns)} returns")
    if not returns:
        raise entry.refusal("returns", "are none")
    record = PolicyRecord(
        target_return_ratio=entry.number_or_none("target_return_ratio"),
        returns=dict(zip(seeds, returns, strict=True)),
        decision_ms=entry.number_or_none("decision_ms_p50"),
    )
    return (stage, policy), record


def _references(fields: JsonFields) -> tuple[float, float] | None:
    low, high = fields.number_or_none("reference_min"), fields.number_or_none("reference_max")
    if low is None or high is None:
        return None
    if not high > low:
        raise fields.refusal("reference_max", "is not above reference_min")
    return low, high


def _schedule(fields: JsonFields) -> list[dict[str, float]]:
    """Empty where a summary has none."""
    if "schedule" not in fields.values:
        return []
    names = ("env_steps", "mean", "low", "high")
    return [{name: entry.number(name) for name in names} for entry in fields.sections("schedule")]


def _capabilities(fields: JsonFields) -> dict[tuple[str, str, str], PredictionRecord]:
    """Empty where a summary has none."""
    if "capabilities" not in fields.values:
        return {}
    found: dict[tuple[str, str, str], PredictionRecord] = {}
    for entry in fields.sections("capabilities"):
        key = entry.name("stage"), entry.name("capability"), entry.text("predicted")
        errors = entry.numbers("error")
        if key[0] not in STAGES:
            raise entry.refusal("stage", f"is none of {', '.join(STAGES)}")
        if not errors:
            raise entry.refusal("error", "has no step")
        if key in found:
            raise entry.refusal("predicted", f"is listed twice for {key[1]} in the stage {key[0]}")
        found[key] = PredictionRecord(tuple(errors), entry.integer("episodes"))
    return found
