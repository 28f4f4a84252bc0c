"""The order of a sweep's trials, and that nothing in its ledger is done twice."""

import random
from pathlib import Path

import pytest

from system.config import SweepConfig
from system.errors import DataError
from system.sweeps.agenda import Agenda
from system.sweeps.ledger import Job, TrialLedger
from system.sweeps.proposers import make_proposer
from system.sweeps.ranking import Outcome
from system.sweeps.search_space import parse_space

SPACE = parse_space({"planner.horizon": {"randint": [1, 64]}})


def agenda_of(folder: Path, *, seeds: int = 1, finalists: int = 2, trials: int = 5) -> Agenda:
    return Agenda(
        TrialLedger(folder / "trials.jsonl"),
        make_proposer(SweepConfig(trials=trials), SPACE, lambda point: True),
        seeds=range(seeds),
        finalists=finalists,
        objective="return_mean",
    )


def outcome_of(job: Job) -> Outcome:
    """Longer horizons are better, noisily."""
    shift = 0.1 * job.seed + (0.01 if job.round == "final" else 0.0)
    return Outcome([job.point["planner.horizon"] + shift], [100 + job.seed], 1.0, 0.1, 7)


def work(agenda: Agenda, *, at_most: int = 1000) -> list[Job]:
    """Works through an agenda, several trials under way, that finish in any order."""
    done: list[Job] = []
    under_way: list[Job] = []
    generator = random.Random(0)
    while len(done) < at_most:
        while len(under_way) < 3 and (job := agenda.next_job()) is not None:
            under_way.append(job)
        if not under_way:
            break
        job = under_way.pop(generator.randrange(len(under_way)))
        agenda.record(job, outcome_of(job))
        done.append(job)
    return done


def test_every_configuration_gets_its_seeds_and_the_best_go_on(tmp_path: Path) -> None:
    agenda = agenda_of(tmp_path, seeds=2)
    done = work(agenda)
    assert [job.round for job in done] == ["search"] * 10 + ["final"] * 4
    assert len({job.key for job in done}) == 14
    horizons = sorted((job.point["planner.horizon"] for job in done[:10]), reverse=True)
    assert {job.point["planner.horizon"] for job in done[10:]} == set(horizons[:4])
    assert agenda.next_job() is None
    assert not agenda.waits
    assert agenda.num_done == agenda.num_planned == 14
    assert agenda.ranking("final")[0].point["planner.horizon"] == horizons[0]


def test_the_final_round_waits_for_the_search(tmp_path: Path) -> None:
    agenda = agenda_of(tmp_path, trials=2, finalists=1)
    first, second = agenda.next_job(), agenda.next_job()
    assert first is not None and second is not None
    assert agenda.next_job() is None
    agenda.record(first, outcome_of(first))
    assert agenda.next_job() is None
    assert agenda.waits
    agenda.record(second, outcome_of(second))
    final = agenda.next_job()
    assert final is not None
    assert (final.round, final.name) == ("final", f"{final.number:04d}-seed0-final")


@pytest.mark.parametrize("killed_after", [1, 4, 9, 11, 13])
def test_a_killed_sweep_repeats_nothing(killed_after: int, tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    calm = agenda_of(tmp_path / "calm", seeds=2)
    work(calm)
    before = work(agenda_of(tmp_path, seeds=2), at_most=killed_after)
    resumed = agenda_of(tmp_path, seeds=2)
    after = work(resumed)
    assert len(after) == 14 - killed_after
    assert not {job.key for job in before} & {job.key for job in after}
    assert resumed.ranking("final") == calm.ranking("final")
    assert resumed.ranking("search") == calm.ranking("search")


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    work(agenda_of(tmp_path), at_most=3)
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "finished", "round"')
    ledger = TrialLedger(path)
    assert len(ledger.outcomes) == 3
    ledger.add_point(17, {"planner.horizon": 3})
    assert TrialLedger(path).points[17] == {"planner.horizon": 3}
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(DataError, match="line 1"):
        TrialLedger(path)


def test_a_trial_that_is_given_up_is_left_out_and_tried_again_by_the_next_start(tmp_path: Path) -> None:
    agenda = agenda_of(tmp_path, trials=3, finalists=2)
    bad = agenda.next_job()
    assert bad is not None
    agenda.give_up(bad, "broken")
    done = work(agenda)
    assert bad.number not in {job.number for job in done}
    assert [job.round for job in done] == ["search"] * 2 + ["final"] * 2
    assert agenda.failures == {bad.key: "broken"}
    assert agenda.num_done == 5
    assert bad.key in {job.key for job in work(agenda_of(tmp_path, trials=3, finalists=2))}


def test_a_trial_that_is_put_back_comes_again(tmp_path: Path) -> None:
    agenda = agenda_of(tmp_path)
    job = agenda.next_job()
    assert job is not None
    agenda.put_back(job)
    assert not agenda.waits
    assert agenda.next_job() == job
