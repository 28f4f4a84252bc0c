"""Where a sweep's configurations come from: all of a grid, chance, or Optuna's model of what was good so far.

What is proposed depends on the sweep's seed, the number of the proposal and what was learnt before it, on
nothing else, so that a sweep that is resumed goes on as it would have.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from system.config import SweepConfig
from system.errors import ConfigError
from system.seeding import derive_seed, numpy_generator
from system.sweeps.ranking import Point
from system.sweeps.search_space import ATTEMPTS, Domain, SearchSpace

Fits = Callable[[Point], bool]
"""Whether a point is a valid configuration."""


class Proposer(Protocol):
    """Proposes configurations.

    Attributes:
        trials: how many configurations it will be asked for.
    """

    trials: int

    def propose(self, number: int, earlier: Sequence[Point]) -> Point | None:
        """The configuration with this number, unlike all earlier ones; None if there are no more, for good."""
        ...

    def learn(self, point: Point, score: float) -> None:
        """Takes note of how good a configuration is; higher is better."""
        ...


class GridProposer:
    """Every combination of the listed values that is a valid configuration.

    Args:
        space: of choices and grids alone.
        fits: leaves out combinations that are not valid.

    Raises:
        ConfigError: a key has no list of values, or nothing is left.
    """

    def __init__(self, space: SearchSpace, fits: Fits) -> None:
        for domain in space.domains:
            if not domain.finite:
                raise ConfigError(
                    f"space.{domain.key}: {domain.kind} has no grid; use choice, or another searcher"
                )
        self.points = [point for point in space.grid() if fits(point)]
        if not self.points:
            raise ConfigError("space: no combination is a valid configuration")
        self.trials = len(self.points)

    def propose(self, number: int, earlier: Sequence[Point]) -> Point | None:
        """The next of the grid."""
        return self.points[number] if number < len(self.points) else None

    def learn(self, point: Point, score: float) -> None:
        """Changes nothing."""


class RandomProposer:
    """Independent draws; keys with a grid go through its combinations in turn.

    Args:
        space: what is drawn from.
        fits: draws that are not valid are drawn again.
        seed: of the sweep.
        trials: how many configurations are wanted.
    """

    def __init__(self, space: SearchSpace, fits: Fits, seed: int, trials: int) -> None:
        self.space = space
        self.fits = fits
        self.seed = seed
        self.trials = trials
        self._grid = space.grid(("grid",))

    def propose(self, number: int, earlier: Sequence[Point]) -> Point | None:
        """A new draw; None after enough of them, or once chance finds nothing new."""
        if number >= self.trials:
            return None
        forced = self._grid[number % len(self._grid)]
        for attempt in range(ATTEMPTS):
            point = self.space.draw(numpy_generator(self.seed, "sweep", number, attempt), forced)
            if point not in earlier and self.fits(point):
                return point
        return None

    def learn(self, point: Point, score: float) -> None:
        """Changes nothing."""


class OptunaProposer:
    """Optuna's tree-structured Parzen estimator, over what was learnt so far.

    Args:
        space: grids count as choices.
        fits: suggestions that are not valid are passed over.
        seed: of the sweep.
        trials: how many configurations are wanted.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, fits: Fits, seed: int, trials: int) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "searcher: optuna is not installed; pip install 'offline-to-online[sweep]', or use random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self.fits = fits
        self.seed = seed
        self.trials = trials
        self._optuna: Any = optuna
        self._study = optuna.create_study(direction="maximize")

    def propose(self, number: int, earlier: Sequence[Point]) -> Point | None:
        """The suggestion that promises most; None after enough of them, or once nothing new is suggested."""
        if number >= self.trials:
            return None
        failed = self._optuna.trial.TrialState.FAIL
        for attempt in range(ATTEMPTS):
            seed = derive_seed(self.seed, "sweep", number, attempt) % 2**32
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
            trial = self._study.ask()
            point = self._suggest(trial)
            # What is learnt of a point is added as a trial of its own, so this one is closed at once.
            self._study.tell(trial, state=failed)
            if point not in earlier and self.fits(point):
                return point
        return None

    def learn(self, point: Point, score: float) -> None:
        """Adds a finished trial."""
        domains = [domain for domain in self.space.domains if domain.key in point]
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params={each.key: _parameter(each, point[each.key]) for each in domains},
                distributions={each.key: self._distribution(each) for each in domains},
                value=score,
            )
        )

    def _suggest(self, trial: Any) -> Point:
        point: Point = {}
        for domain in self.space.domains:
            if domain.is_active(point):
                point[domain.key] = _suggest_value(trial, domain)
        return point

    def _distribution(self, domain: Domain) -> Any:
        distributions = self._optuna.distributions
        if domain.finite:
            return distributions.CategoricalDistribution(tuple(range(len(domain.values))))
        if domain.kind == "randint":
            return distributions.IntDistribution(*domain.values)
        return distributions.FloatDistribution(*domain.values, log=domain.kind == "loguniform")


def make_proposer(config: SweepConfig, space: SearchSpace, fits: Fits) -> Proposer:
    """The configured searcher.

    Raises:
        ConfigError: `trials` or a domain does not go with it, nothing in the space is a valid configuration, or
            it is not installed.
    """
    if config.searcher == "grid":
        if config.trials is not None:
            raise ConfigError("trials: does not go with searcher grid, which tries every combination")
        return GridProposer(space, fits)
    if config.trials is None:
        raise ConfigError(f"trials: needed with searcher {config.searcher}")
    kind = RandomProposer if config.searcher == "random" else OptunaProposer
    return kind(space, fits, config.seed, config.trials)


def _suggest_value(trial: Any, domain: Domain) -> Any:
    if domain.finite:
        return domain.values[trial.suggest_categorical(domain.key, tuple(range(len(domain.values))))]
    if domain.kind == "randint":
        return trial.suggest_int(domain.key, *domain.values)
    return trial.suggest_float(domain.key, *domain.values, log=domain.kind == "loguniform")


def _parameter(domain: Domain, value: Any) -> Any:
    """What Optuna knows a value by: of listed ones the place in the list."""
    return domain.values.index(value) if domain.finite else value
