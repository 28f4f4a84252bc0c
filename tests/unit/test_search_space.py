"""The space of a sweep: every kind of domain, conditions on other keys, and mistakes named."""

import numpy as np
import pytest

from system.config import PlannerConfig, RunConfig
from system.errors import ConfigError
from system.sweeps.search_space import apply_point, check_fit, parse_space

EVERY_KIND = {
    "planner.td_lambda": {"uniform": [0, 1], "when": {"planner.guidance": "critic"}},
    "planner.guidance": {"choice": ["critic", "return"]},
    "planner.horizon": {"grid": [1, 2, 4]},
    "planner.temperature": {"loguniform": ["1e-2", 100]},
    "planner.num_candidates": {"randint": [3, 5]},
}


def draws(tree: dict, count: int = 300) -> list[dict]:
    space, generator = parse_space(tree), np.random.default_rng(0)
    return [space.draw(generator) for _ in range(count)]


def test_every_kind_of_domain_draws_what_it_says() -> None:
    points = draws(EVERY_KIND)
    assert {point["planner.guidance"] for point in points} == {"critic", "return"}
    assert {point["planner.horizon"] for point in points} == {1, 2, 4}
    assert {point["planner.num_candidates"] for point in points} == {3, 4, 5}
    temperatures = np.array([point["planner.temperature"] for point in points])
    assert temperatures.min() >= 0.01
    assert temperatures.max() <= 100
    assert 0.4 < np.mean(temperatures < 1.0) < 0.6
    weights = np.array([point["planner.td_lambda"] for point in points if "planner.td_lambda" in point])
    assert 0 <= weights.min() < 0.1
    assert 0.9 < weights.max() <= 1


def test_a_condition_leaves_the_key_out() -> None:
    for point in draws(EVERY_KIND):
        assert ("planner.td_lambda" in point) == (point["planner.guidance"] == "critic")


def test_what_depends_on_a_key_that_is_left_out_is_left_out() -> None:
    tree = {
        "planner.temperature": {"uniform": [0, 1], "when": {"planner.select": ["sample"]}},
        "planner.select": {"choice": ["sample", "argmax"], "when": {"planner.guidance": "critic"}},
        "planner.guidance": {"choice": ["critic", "return"]},
    }
    assert parse_space(tree).keys == ["planner.guidance", "planner.select", "planner.temperature"]
    points = draws(tree)
    assert all("planner.guidance" in point for point in points)
    assert not any("planner.temperature" in point for point in points if point["planner.guidance"] == "return")
    assert any("planner.temperature" in point for point in points)


def test_a_grid_is_every_combination_once() -> None:
    space = parse_space(
        {
            "planner.horizon": {"grid": [1, 2]},
            "planner.td_lambda": {"choice": [0.0, 0.5, 1.0], "when": {"planner.horizon": 2}},
        }
    )
    assert space.grid() == [
        {"planner.horizon": 1},
        *({"planner.horizon": 2, "planner.td_lambda": weight} for weight in (0.0, 0.5, 1.0)),
    ]
    assert space.grid(("grid",)) == [{"planner.horizon": 1}, {"planner.horizon": 2}]


def test_a_point_becomes_a_configuration() -> None:
    point = {"planner.temperature": 1e-5, "evaluation.target_return_ratios": [0.5, 1.0], "online.episodes": None}
    config = apply_point(RunConfig(planner=PlannerConfig(horizon=2)), point)
    assert config.planner == PlannerConfig("forward_mpc", horizon=2, temperature=1e-5)
    assert config.evaluation.target_return_ratios == (0.5, 1.0)
    assert config.online.episodes is None


def test_a_mapping_of_a_point_replaces_the_one_of_the_configuration() -> None:
    key = "masked_trajectory.training.mask_shares"
    shares = [{"return_conditioned": 0.5}, {"forward_dynamics": 0.5}]
    points = parse_space({key: {"choice": shares}, f"{key}.path_inference": {"uniform": [0.1, 0.2]}}).grid()
    assert [apply_point(RunConfig(), point).method.training.mask_shares for point in points] == shares


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, "space: has no key"),
        ({"planner.horizn": {"choice": [1]}}, "planner.horizn: unknown key; did you mean planner.horizon?"),
        ({"planner": {"choice": [1]}}, "planner: 1 given where keys and values"),
        ({"planner.horizon": [1, 2]}, r"space.planner.horizon: .* where a domain is expected"),
        (
            {"planner.horizon": {"choise": [1]}},
            "space.planner.horizon: unknown domain 'choise'; did you mean choice?",
        ),
        ({"planner.horizon": {"choice": [1], "grid": [2]}}, "space.planner.horizon: 2 domains given"),
        ({"planner.horizon": {"choice": 3}}, "space.planner.horizon: 3 is not a list"),
        ({"planner.horizon": {"choice": []}}, "space.planner.horizon: choice of nothing"),
        ({"planner.horizon": {"choice": [2, 2]}}, "space.planner.horizon: a value is given twice"),
        ({"planner.horizon": {"choice": [1, "two"]}}, "planner.horizon: 'two' is not an integer"),
        ({"planner.horizon": {"choice": [99]}}, r"planner.horizon: 99 is out of range \[0, 64\]"),
        ({"planner.horizon": {"uniform": [1, 4]}}, "space.planner.horizon: uniform draws numbers with fractions"),
        ({"planner.td_lambda": {"randint": [0, 1]}}, "space.planner.td_lambda: randint draws whole numbers"),
        ({"planner.temperature": {"loguniform": [0, 1]}}, "space.planner.temperature: loguniform needs a low end"),
        ({"planner.temperature": {"uniform": [2, 1]}}, "space.planner.temperature: uniform needs two ends"),
        (
            {"planner.horizon": {"choice": [1], "when": {"planner.select": "sample"}}},
            "space.planner.horizon.when.planner.select: is not searched",
        ),
        (
            {
                "planner.horizon": {"choice": [1], "when": {"planner.select": "sample"}},
                "planner.select": {"choice": ["argmax"]},
            },
            "space.planner.horizon.when.planner.select: 'sample' is never drawn",
        ),
        (
            {
                "planner.horizon": {"choice": [1], "when": {"planner.beam_width": 2}},
                "planner.beam_width": {"choice": [2], "when": {"planner.horizon": 1}},
            },
            "space: planner.horizon, planner.beam_width wait for each other",
        ),
    ],
)
def test_mistakes_are_named(tree: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_space(tree)


def test_a_value_that_goes_with_nothing_is_refused() -> None:
    def fit(tree: dict) -> None:
        check_fit(parse_space(tree), lambda point: apply_point(RunConfig(), point), seed=0)

    fit({"planner.horizon": {"choice": [1, 8]}})
    with pytest.raises(ConfigError, match=r"space.planner.horizon: 9 never fits: planner.horizon: 9 exceeds 8"):
        fit({"planner.horizon": {"choice": [1, 9]}})
    # With a longer context the same horizon fits.
    fit({"planner.horizon": {"choice": [1, 9]}, "masked_trajectory.model.context_length": {"choice": [8, 16]}})
