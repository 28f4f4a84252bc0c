"""The limiter's invariant holds on every path, and neither side ever waits for the other for good."""

from hypothesis import given, settings
from hypothesis import strategies as st

from system.data.replay.rate_limiter import SamplesPerInsertLimiter

RATES = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0])


def limiter(rate: float, tolerance: int, warmup: int, inserted: int, updated: int) -> SamplesPerInsertLimiter:
    return SamplesPerInsertLimiter(
        updates_per_env_step=rate,
        tolerance_env_steps=tolerance,
        warmup_env_steps=warmup,
        env_steps=inserted,
        update_steps=updated,
    )


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 500), st.integers(0, 300), st.lists(st.tuples(st.booleans(), st.integers(1, 60))))
def test_learning_never_outruns_data_and_data_never_outrun_learning(
    rate: float, tolerance: int, warmup: int, moves: list[tuple[bool, int]]
) -> None:
    inserted = updated = 0
    largest_round = 60
    for wants_insert, amount in moves:
        now = limiter(rate, tolerance, warmup, inserted, updated)
        if wants_insert and now.can_insert():
            inserted += amount
        elif not wants_insert:
            updated += min(amount, now.allowed_updates())
        assert updated <= rate * inserted + 1e-6
        assert updated == 0 or inserted >= warmup
        if rate and inserted >= warmup + largest_round:
            assert inserted - updated / rate <= max(tolerance, warmup, 1 / rate) + largest_round + 1 / rate


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 500), st.integers(0, 300), st.integers(0, 5000), st.integers(0, 5000))
def test_one_side_can_always_move(rate: float, tolerance: int, warmup: int, inserted: int, updated: int) -> None:
    now = limiter(rate, tolerance, warmup, inserted, min(updated, int(rate * inserted)))
    assert now.can_insert() or now.allowed_updates() > 0


def test_a_rate_of_zero_collects_without_learning() -> None:
    now = limiter(0.0, 10, 0, 10_000, 0)
    assert now.can_insert()
    assert now.allowed_updates() == 0


def test_the_budget_is_exact() -> None:
    assert limiter(0.05, 2000, 0, 20, 0).allowed_updates() == 1
    assert limiter(0.1, 2000, 0, 30, 2).allowed_updates() == 1
    assert limiter(0.1, 2000, 0, 29, 2).allowed_updates() == 0
    assert not limiter(0.1, 100, 0, 201, 10).can_insert()
    assert limiter(0.1, 100, 0, 200, 10).can_insert()


def test_updates_that_are_ahead_of_the_data_are_waited_for() -> None:
    """As after a checkpoint whose episodes were lost."""
    assert limiter(0.5, 100, 0, 10, 7).allowed_updates() == 0
    assert limiter(0.5, 100, 0, 10, 7).can_insert()


def test_an_insert_is_allowed_up_to_the_tolerance() -> None:
    allowed = [limiter(0.5, 100, 0, inserted, 10).can_insert() for inserted in (50, 119, 120, 121, 122, 300)]
    assert allowed == [True, True, True, False, False, False]
    assert [limiter(0.5, 100, 400, inserted, 10).can_insert() for inserted in (399, 400)] == [True, False]
    assert [limiter(0.5, 100, 400, inserted, 10).allowed_updates() for inserted in (399, 400)] == [0, 190]
