"""Numbered episodes on disk: what was lost leaves a gap, and nothing gets a number twice."""

from pathlib import Path

import numpy as np

from system.data.replay.episode_journal import EpisodeJournal
from tests.support.dataset_factory import make_episode


def numbers(journal: EpisodeJournal) -> list[int]:
    return [episode.key.sequence for episode in journal.episodes if episode.key is not None]


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    first = EpisodeJournal(tmp_path)
    assert (first.next_number, first.env_steps, first.num_lost) == (0, 0, 0)
    first.append(0, 2, {0: make_episode(4, "terminated"), 1: make_episode(3, "terminated")})
    second = EpisodeJournal(tmp_path)
    assert (second.next_number, second.env_steps, second.num_lost) == (2, 7, 0)
    second.append(2, 1, {0: make_episode(5, "terminated")})
    assert numbers(second) == [0, 1, 2]
    assert numbers(EpisodeJournal(tmp_path)) == [0, 1, 2]


def test_a_lost_episode_leaves_a_gap_and_its_number_to_nobody(tmp_path: Path) -> None:
    journal = EpisodeJournal(tmp_path)
    journal.append(0, 4, {0: make_episode(4, "terminated"), 2: make_episode(3, "terminated")})
    assert (journal.next_number, journal.num_lost) == (4, 2)
    journal.append(journal.next_number, 1, {0: make_episode(2, "terminated")})
    assert numbers(journal) == [0, 2, 4]
    assert EpisodeJournal(tmp_path).num_lost == 2


def test_a_round_that_was_stored_in_part_is_completed(tmp_path: Path) -> None:
    whole = {position: make_episode(2 + position, "terminated") for position in range(4)}
    EpisodeJournal(tmp_path).append(8, 2, {position: whole[position] for position in range(2)})
    journal = EpisodeJournal(tmp_path)
    journal.append(8, 4, whole)
    assert numbers(journal) == [8, 9, 10, 11]
    assert journal.env_steps == 2 + 3 + 4 + 5
    for episode, expected in zip(journal.episodes, whole.values(), strict=True):
        assert np.array_equal(episode.observations, expected.observations)
    assert numbers(EpisodeJournal(tmp_path)) == [8, 9, 10, 11]
