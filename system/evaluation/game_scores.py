"""Atari scores: random play is 0, a human tester or DQN is 100; of one game, and of several together.

Source: Mnih et al. 2015 (human-normalised scores); Lee et al. 2022 (DQN-normalised ones); Agarwal et al. 2021
(interquartile means over games and runs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from system.envs.atari_games import AtariGame, find_game
from system.evaluation.compared_policies import STAGES
from system.evaluation.statistics import Statistic, interquartile_mean, stratified_interval

Reference = Literal["human", "dqn"]
REFERENCES: tuple[Reference, ...] = ("human", "dqn")
REFERENCE_NAMES: Mapping[str, str] = {"human": "human", "dqn": "DQN"}

GameReturns = Mapping[str, Float[np.ndarray, "_"]]
"""Of one run: returns of a policy's episodes, or their differences, by environment id."""


@dataclass(frozen=True)
class Aggregate:
    """A statistic over games and runs.

    Attributes:
        environments: the games that it is of: those whose reference is known.
        num_runs: different ones.
        value, low, high: with the bounds of its 95 % interval.
    """

    environments: list[str]
    num_runs: int
    value: float
    low: float
    high: float


def reference_range(game: AtariGame, reference: Reference) -> tuple[float, float] | None:
    """Returns scored 0 and 100; None where one of them is not known."""
    best = game.human if reference == "human" else game.dqn
    return None if game.random is None or best is None else (game.random, best)


def game_score(environment: str, reference: Reference, value: float, *, difference: bool = False) -> float | None:
    """A return as a score: 100·(return − random)/(reference − random).

    Args:
        environment: its id.
        reference: whose return scores 100.
        value: a return, or a difference of two.
        difference: the latter, which does not count from random play.

    Returns:
        None of what is no Atari game, or where the references are unknown.
    """
    game = find_game(environment)
    bounds = reference_range(game, reference) if game is not None else None
    if bounds is None:
        return None
    return 100.0 * (value - (0.0 if difference else bounds[0])) / (bounds[1] - bounds[0])


def aggregate_scores(
    strata: Sequence[Sequence[GameReturns]],
    reference: Reference,
    *,
    statistic: Statistic = interquartile_mean,
    difference: bool = False,
) -> Aggregate | None:
    """A statistic of normalised scores over games and runs.

    Args:
        strata: as in `stratified_interval`: of each its runs, of each run the returns in its games. Runs that lack
            a game of their stratum are left out.
        reference: whose return scores 100; games without one are left out.
        statistic: over every run in every game.
        difference: the values are differences of returns.

    Returns:
        None where nothing is left.
    """
    scored: list[list[list[np.ndarray]]] = []
    environments: list[str] = []
    for stratum in strata:
        names = list(dict.fromkeys(name for run in stratum for name in run))
        known = [name for name in names if game_score(name, reference, 0.0) is not None]
        whole = [run for run in stratum if all(name in run for name in known)]
        if known and whole:
            environments += known
            scored.append([[_scores(name, reference, run[name], difference) for name in known] for run in whole])
    if not scored:
        return None
    value, (low, high) = stratified_interval(scored, statistic)
    return Aggregate(list(dict.fromkeys(environments)), sum(map(len, scored)), value, low, high)


def summarize_games(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Normalised scores of one run, for its summary: by stage and policy, of each game and over all.

    Args:
        records: as `evaluation_record` makes them.

    Returns:
        {stage, policy, games: {environment: {human, dqn}}, human: {iqm, ci95, games}, dqn: likewise}; None stands
        for what is not known. Intervals are over episodes alone. Nothing of runs that play no Atari game.
    """
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for record in records:
        if find_game(record.get("environment", "")) is not None:
            key = (record["stage"], record["policy"])
            found.setdefault(key, {})[record["environment"]] = np.asarray(record["returns"], dtype=np.float64)
    rows = []
    for (stage, policy), returns in sorted(found.items(), key=lambda item: STAGES.index(item[0][0])):
        games = {
            name: {each: game_score(name, each, float(values.mean())) for each in REFERENCES}
            for name, values in returns.items()
        }
        row: dict[str, Any] = {"stage": stage, "policy": policy, "games": games}
        for each in REFERENCES:
            row[each] = _described(aggregate_scores([[returns]], each))
        rows.append(row)
    return rows


def format_games(rows: Sequence[Mapping[str, Any]]) -> str:
    """What `summarize_games` found, over all games, for a person."""
    names = list(dict.fromkeys(name for row in rows for name in row["games"]))
    if not names:
        return ""
    unknown = [name for name in names if game_score(name, "dqn", 0.0) is None]
    over = f"interquartile mean over {len(names)} games [95 % over episodes]" if len(names) > 1 else names[0]
    lines = [f"{over}; random play 0, human or DQN 100:"]
    for row in rows:
        cells = [f"{REFERENCE_NAMES[each]:>8} {_cell(row[each]):<22}" for each in REFERENCES]
        lines.append(f"{row['policy']:<15}{row['stage']:<8}{''.join(cells)}".rstrip())
    return "\n".join(lines + ([f"(no score of DQN is known of {', '.join(unknown)})"] if unknown else []))


def _scores(environment: str, reference: Reference, values: np.ndarray, difference: bool) -> np.ndarray:
    return np.array([game_score(environment, reference, float(value), difference=difference) for value in values])


def _described(aggregate: Aggregate | None) -> dict[str, Any] | None:
    if aggregate is None:
        return None
    interval = [aggregate.low, aggregate.high]
    return {"iqm": aggregate.value, "ci95": interval, "games": len(aggregate.environments)}


def _cell(overall: Mapping[str, Any] | None) -> str:
    if overall is None:
        return "–"
    return f"{overall['iqm']:.1f} [{overall['ci95'][0]:.1f}, {overall['ci95'][1]:.1f}]"
