"""The log of online episodes: durable before acknowledged, never torn, never twice, fenced."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.data.replay import episode_log
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.episode_record import encode_episode, read_records
from system.errors import SystemFailure
from system.types import Episode, EpisodeKey
from tests.support.dataset_factory import make_episode


def keyed(sequence: int, length: int = 4) -> Episode:
    episode = make_episode(length, "terminated", sequence)
    return replace(
        episode, key=EpisodeKey(0, 1, sequence), policy_version=np.full(length, sequence, dtype=np.int64)
    )


def same(first: Episode, second: Episode) -> bool:
    return encode_episode(first) == encode_episode(second)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def test_what_was_acknowledged_is_there_again_in_order(tmp_path: Path) -> None:
    log = EpisodeLog.open(tmp_path)
    episodes = [keyed(number, 1 + number) for number in range(5)]
    assert log.append(episodes[:2]) == episodes[:2]
    log.append(episodes[2:])
    log.close()
    found = EpisodeLog.open(tmp_path).episodes
    assert len(found) == 5
    assert all(same(*pair) for pair in zip(found, episodes, strict=True))


def test_sending_again_stores_once_even_after_a_restart(tmp_path: Path) -> None:
    log = EpisodeLog.open(tmp_path)
    assert len(log.append([keyed(0), keyed(0), keyed(1)])) == 2
    assert log.append([keyed(1)]) == []
    log.close()
    again = EpisodeLog.open(tmp_path)
    assert [each.key.sequence for each in again.append([keyed(1), keyed(2)]) if each.key] == [2]


def test_a_new_writer_fences_the_old_one(tmp_path: Path) -> None:
    zombie = EpisodeLog.open(tmp_path)
    zombie.append([keyed(0)])
    owner = EpisodeLog.open(tmp_path)
    with pytest.raises(SystemFailure, match="superseded by generation 2"):
        zombie.append([keyed(1)])
    owner.append([keyed(2)])
    found = [each.key.sequence for each in EpisodeLog.open(tmp_path).episodes if each.key]
    assert found == [0, 2]


def test_of_two_that_claim_at_once_each_gets_a_number_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EpisodeLog.open(tmp_path)
    look = episode_log._newest_generation
    stale = [0]  # the second looked before the first had claimed
    monkeypatch.setattr(episode_log, "_newest_generation", lambda folder: stale.pop() if stale else look(folder))
    second = EpisodeLog.open(tmp_path)
    assert (first.generation, second.generation) == (1, 2)


def test_what_a_fenced_writer_appends_behind_the_seal_is_never_read(tmp_path: Path) -> None:
    zombie = EpisodeLog.open(tmp_path)
    zombie.append([keyed(0)])
    EpisodeLog.open(tmp_path).append([keyed(1)])
    with segments(tmp_path)[0].open("ab") as stream:
        stream.write(encode_episode(keyed(9)))
    found = [each.key.sequence for each in EpisodeLog.open(tmp_path).episodes if each.key]
    assert found == [0, 1]


def test_segments_rotate_and_keep_the_order(tmp_path: Path) -> None:
    log = EpisodeLog.open(tmp_path, segment_bytes=500)
    for number in range(12):
        log.append([keyed(number)])
    assert len(segments(tmp_path)) > 3
    found = [each.key.sequence for each in EpisodeLog.open(tmp_path).episodes if each.key]
    assert found == list(range(12))


def test_f08_a_tail_torn_at_any_byte_costs_only_its_own_record(tmp_path: Path) -> None:
    data = encode_episode(keyed(0)) + encode_episode(keyed(1))
    first = len(encode_episode(keyed(0)))
    for size in range(first, len(data)):
        records = list(read_records(data[:size]))
        assert [record.end for record in records] == [first]
        assert records[0].episode is not None


def test_f08_appending_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    log = EpisodeLog.open(tmp_path)
    log.append([keyed(0)])
    log.append([keyed(1)])
    log.close()
    with segments(tmp_path)[0].open("rb+") as stream:
        stream.truncate(segments(tmp_path)[0].stat().st_size - 7)
    log = EpisodeLog.open(tmp_path)
    assert log.quarantined == []
    log.append([keyed(1), keyed(2)])
    found = [each.key.sequence for each in EpisodeLog.open(tmp_path).episodes if each.key]
    assert found == [0, 1, 2]


def flip_and_read(number: int) -> None:
    originals = [keyed(index, 3) for index in range(4)]
    data = bytearray(b"".join(encode_episode(each) for each in originals))
    position = random.Random(number).randrange(len(data))
    data[position] ^= 1 << random.Random(number + 1).randrange(8)
    records = list(read_records(bytes(data)))
    readable = [record.episode for record in records if record.episode is not None]
    assert len(readable) == 3
    assert all(any(same(episode, original) for original in originals) for episode in readable)
    covered = sum(record.end - record.start for record in records)
    assert covered == len(data) or records[-1].end < len(data)


@pytest.mark.parametrize("number", range(40))
def test_f09_a_flipped_bit_costs_one_record_and_is_never_read(number: int) -> None:
    flip_and_read(number)


@pytest.mark.soak
def test_f09_a_thousand_flipped_bits() -> None:
    for number in range(1000):
        flip_and_read(number)


def test_f09_damage_is_reported_by_place(tmp_path: Path) -> None:
    log = EpisodeLog.open(tmp_path)
    log.append([keyed(0), keyed(1), keyed(2)])
    log.close()
    file = segments(tmp_path)[0]
    data = bytearray(file.read_bytes())
    data[len(encode_episode(keyed(0))) + 60] ^= 1
    file.write_bytes(bytes(data))
    log = EpisodeLog.open(tmp_path)
    assert [each.key.sequence for each in log.episodes if each.key] == [0, 2]
    assert len(log.quarantined) == 1
    assert log.quarantined[0].startswith(f"{file.name}: bytes ")


def test_an_episode_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="without a key"):
        encode_episode(make_episode(3, "terminated"))
