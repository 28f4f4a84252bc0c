"""The summary of a run: what it was, what it reached, and what it survived."""

from dataclasses import asdict
from typing import Any

from system.config.loading import to_dict
from system.evaluation.capability_summary import format_capabilities
from system.evaluation.game_scores import format_games, summarize_games
from system.evaluation.imagined_summary import format_imagined
from system.evaluation.ranking_summary import format_rankings
from system.evaluation.summary import compare, format_comparisons, format_table
from system.runs.checkpoint import package_versions
from system.runs.progress import Progress
from system.training.experiment import Experiment
from system.training.exploration import choose_exploration

VERSIONS = ("offline-to-online", "torch", "ray", "gymnasium", "mujoco", "minari", "mlflow", "numpy")


def summarize(run: Experiment) -> dict[str, Any]:
    """Everything that summary.json holds, as far as the run has come."""
    progress = run.progress
    return {
        "next_stage": progress.stage,
        "config": to_dict(run.config),
        "seed": run.config.seed,
        "versions": package_versions(*VERSIONS),
        "dataset": run.data.description,
        "stages": _stages(progress),
        "evaluations": progress.evaluations,
        "comparisons": compare(progress.evaluations),
        "game_scores": summarize_games(progress.evaluations),
        "exploration": asdict(choose_exploration(run.config, progress.evaluations)),
        "open_loop_error": progress.open_loop,
        "utility_rank_correlation": progress.utility_rank_correlation,
        "capabilities": progress.capabilities,
        "target_return_ratio_curves": progress.ratio_curves,
        "imagined": progress.imagined,
        "schedule": progress.schedule,
        "kept_env_steps": progress.kept_env_steps,
        "best_checkpoint": progress.best_checkpoint,
        "faults": asdict(run.faults),
    }


def format_summary(summary: dict[str, Any]) -> str:
    """The table and comparisons of a run, for a person."""
    dataset, config = summary["dataset"], summary["config"]
    score = dataset["normalized_return_mean"]
    lines = [
        f"{dataset['id']}: {dataset['episodes']} episodes, {dataset['steps']} steps, "
        f"return {dataset['return_mean']:.0f}" + (f" (score {score:.1f})" if score is not None else ""),
    ]
    if summary["evaluations"]:
        count = config["evaluation"]["episodes"]
        lines += [
            "",
            format_table(summary["evaluations"]),
            f"{count} episodes each; intervals over episodes of this run",
        ]
    if summary.get("game_scores"):  # summaries of earlier versions have none
        lines += ["", format_games(summary["game_scores"])]
    if summary["comparisons"]:
        lines += ["", format_comparisons(summary["comparisons"])]
    if summary.get("utility_rank_correlation"):  # likewise
        lines += ["", format_rankings(summary["utility_rank_correlation"])]
    if summary.get("capabilities"):  # likewise
        lines += ["", format_capabilities(summary["capabilities"])]
    for record in summary.get("imagined", []):
        lines += ["", format_imagined(record)] if record is summary["imagined"][0] else [format_imagined(record)]
    survived = {name: count for name, count in summary["faults"].items() if count}
    if survived:
        lines += ["", "survived: " + ", ".join(f"{name} {count}" for name, count in survived.items())]
    return "\n".join(lines)


def _stages(progress: Progress) -> dict[str, dict[str, float]]:
    """Seconds, steps and rate of each stage; steps are updates offline, env steps online, episodes else."""
    episodes = {
        stage: sum(record["episodes"] for record in progress.evaluations if record["stage"] == stage)
        for stage in ("offline", "online")
    }
    steps = {
        "offline": progress.pretrain_steps,
        "offline_evaluation": episodes["offline"],
        "online": progress.env_steps,
        "online_evaluation": episodes["online"],
    }
    return {
        stage: {
            "seconds": round(seconds, 3),
            "steps": steps[stage],
            "steps_per_second": round(steps[stage] / max(seconds, 1e-9), 3),
        }
        for stage, seconds in progress.stage_seconds.items()
        if stage in steps
    }
