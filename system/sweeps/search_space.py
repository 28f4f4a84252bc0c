"""What a sweep searches: for each key of the run configuration the values that it may take.

In YAML a key maps to one domain, and may depend on another key of the same space:

    planner.guidance: {choice: [critic, return]}
    planner.horizon: {randint: [1, 6]}             # both ends included
    planner.num_candidates: {grid: [16, 32, 64]}   # all of them, instead of some by chance
    planner.temperature: {loguniform: [0.1, 10]}
    planner.td_lambda: {uniform: [0, 1], when: {planner.guidance: critic}}
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from system.config import RunConfig
from system.config.loading import checked_value, config_from_dict, to_dict
from system.errors import ConfigError
from system.seeding import numpy_generator
from system.sweeps.ranking import Point
from system.wording import shown

Kind = Literal["choice", "grid", "uniform", "loguniform", "randint"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ATTEMPTS = 50


@dataclass(frozen=True)
class Domain:
    """What one key is drawn from.

    Attributes:
        key: dotted path into the run configuration.
        kind: how it is drawn.
        values: all of them for choice and grid, else the two ends, both included.
        when: other key → the values of it with which this one is drawn at all.
    """

    key: str
    kind: Kind
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]]

    @property
    def finite(self) -> bool:
        """Whether `values` are all there are."""
        return self.kind in ("choice", "grid")

    def draw(self, generator: np.random.Generator) -> Any:
        """One value by chance."""
        if self.finite:
            return self.values[int(generator.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "randint":
            return int(generator.integers(low, high, endpoint=True))
        if self.kind == "loguniform":
            return float(min(high, max(low, np.exp(generator.uniform(np.log(low), np.log(high))))))
        return float(generator.uniform(low, high))

    def is_active(self, point: Mapping[str, Any]) -> bool:
        """Whether the keys it depends on have one of the values it asks for."""
        return all(key in point and point[key] in allowed for key, allowed in self.when.items())


@dataclass(frozen=True)
class SearchSpace:
    """All domains, those that others depend on first."""

    domains: tuple[Domain, ...]

    @property
    def keys(self) -> list[str]:
        """In the order of drawing."""
        return [domain.key for domain in self.domains]

    def draw(self, generator: np.random.Generator, forced: Mapping[str, Any] | None = None) -> Point:
        """One point by chance.

        Args:
            generator: source of randomness.
            forced: values that are not drawn, where their key is active.
        """
        point: Point = {}
        for domain in self.domains:
            if domain.is_active(point):
                value = domain.draw(generator)
                point[domain.key] = (forced or {}).get(domain.key, value)
        return point

    def grid(self, kinds: Sequence[Kind] = ("choice", "grid")) -> list[Point]:
        """Every combination of the values of some kinds of domains, other domains left out."""
        points: list[Point] = [{}]
        for domain in (each for each in self.domains if each.kind in kinds):
            points = [extended for point in points for extended in _extensions(point, domain)]
        return points


def parse_space(tree: Mapping[str, Any]) -> SearchSpace:
    """Reads and checks the space of a sweep file.

    Args:
        tree: key → {domain: values} and, optionally, `when`.

    Raises:
        ConfigError: names the key, and the nearest right one if it is unknown.
    """
    if not tree:
        raise ConfigError("space: has no key to search")
    domains = {key: _parse_domain(key, value) for key, value in tree.items()}
    for domain in domains.values():
        _check_conditions(domain, domains)
    ordered: list[Domain] = []
    while len(ordered) < len(domains):
        known = {domain.key for domain in ordered}
        ready = [each for key, each in domains.items() if key not in known and each.when.keys() <= known]
        if not ready:
            circle = ", ".join(key for key in domains if key not in known)
            raise ConfigError(f"space: {circle} wait for each other")
        ordered += ready
    return SearchSpace(tuple(ordered))


def apply_point(config: RunConfig, point: Mapping[str, Any]) -> RunConfig:
    """The configuration with a point's values in it.

    Raises:
        ConfigError: they do not go together.
    """
    return config_from_dict(RunConfig, to_dict(config), overrides_of(point))


def overrides_of(point: Mapping[str, Any]) -> list[str]:
    """A point as `key.path=value` each."""
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def check_fit(space: SearchSpace, fit: Callable[[Point], object], seed: int) -> None:
    """Refuses a space with values that go with no values of the other keys.

    Args:
        space: every listed value and every end is tried.
        fit: raises ConfigError for a point that is no valid configuration.
        seed: of the draws of the other keys.

    Raises:
        ConfigError: names the key and the value, and why.
    """
    for domain in space.domains:
        for value in domain.values:
            reason: ConfigError | None = None
            for attempt in range(ATTEMPTS):
                point = space.draw(numpy_generator(seed, "fit", domain.key, attempt), {domain.key: value})
                if domain.key not in point:
                    continue
                try:
                    fit(point)
                    break
                except ConfigError as error:
                    reason = error
            else:
                raise ConfigError(
                    f"space.{domain.key}: {shown(value)} never fits: {reason or 'it is never drawn'}"
                )


def _parse_domain(key: str, tree: Any) -> Domain:
    place = f"space.{key}"
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}: {shown(tree)} given where a domain is expected, such as {{choice: [a, b]}}")
    kinds = [word for word in tree if word != "when"]
    if len(kinds) != 1:
        raise ConfigError(f"{place}: {len(kinds)} domains given where one is expected, of {', '.join(KINDS)}")
    kind = next((each for each in KINDS if each == kinds[0]), None)
    if kind is None:
        nearest = difflib.get_close_matches(str(kinds[0]), KINDS, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(KINDS)}"
        raise ConfigError(f"{place}: unknown domain {shown(kinds[0])}; {hint}")
    given = tree[kind]
    if not isinstance(given, list):
        raise ConfigError(f"{place}: {shown(given)} is not a list, such as [a, b]")
    values = tuple(_plain(checked_value(RunConfig, key, value)) for value in given)
    _check_values(place, kind, values)
    return Domain(key, kind, values, _parse_conditions(place, tree.get("when", {})))


def _check_values(place: str, kind: Kind, values: tuple[Any, ...]) -> None:
    if kind in ("choice", "grid"):
        if not values:
            raise ConfigError(f"{place}: {kind} of nothing")
        if any(value in values[:position] for position, value in enumerate(values)):
            raise ConfigError(f"{place}: a value is given twice")
        return
    wanted = int if kind == "randint" else float
    if any(not isinstance(value, wanted) or isinstance(value, bool) for value in values):
        numbers = "whole numbers" if wanted is int else "numbers with fractions"
        raise ConfigError(f"{place}: {kind} draws {numbers}, which this key does not take")
    if len(values) != 2 or not values[0] < values[1]:
        raise ConfigError(f"{place}: {kind} needs two ends, [low, high]")
    if kind == "loguniform" and values[0] <= 0:
        raise ConfigError(f"{place}: loguniform needs a low end above 0")


def _parse_conditions(place: str, tree: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}.when: {shown(tree)} given where keys and values are expected")
    return {
        key: tuple(
            _plain(checked_value(RunConfig, key, value))
            for value in (given if isinstance(given, list) else [given])
        )
        for key, given in tree.items()
    }


def _check_conditions(domain: Domain, domains: Mapping[str, Domain]) -> None:
    for key, allowed in domain.when.items():
        place = f"space.{domain.key}.when.{key}"
        other = domains.get(key)
        if other is None:
            raise ConfigError(f"{place}: is not searched; known: {', '.join(domains)}")
        for value in allowed:
            possible = value in other.values if other.finite else other.values[0] <= value <= other.values[1]
            if not possible:
                raise ConfigError(f"{place}: {shown(value)} is never drawn")


def _extensions(point: Point, domain: Domain) -> list[Point]:
    return [{**point, domain.key: value} for value in domain.values] if domain.is_active(point) else [point]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
