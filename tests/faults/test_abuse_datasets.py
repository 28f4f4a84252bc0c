"""Hostile and broken datasets: A3 ids, A4 metadata, A5 links, A6 sizes, A7 content of the fault matrix."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS, edit_file, edit_metadata, make_dataset, replace_array

from system.cli.main import main
from system.config import DatasetConfig
from system.data.doctor import check_dataset
from system.data.loading import LoadedDataset, load_dataset
from system.data.sources import hdf5_reader
from system.data.sources.minari_hub import download_dataset
from system.errors import DataError

HOSTILE_IDS = [
    "",
    "../../x",
    "../../x-v0",
    "/abs",
    "/abs-v0",
    "a//b-v0",
    "a/../b-v0",
    "a/./b-v0",
    "-rf",
    "-rf-v0",
    "a/-b-v0",
    "a/b-v0/",
    "a/b-v0\n",
    "a/b\x00-v0",
    "a/b",
    "a\\b-v0",
    "hf://evil/a-v0",
    "a b-v0",
    "~/a-v0",
    "$HOME/a-v0",
    "․․/․․/x-v0",
    "a/ｂ-v0",
    "a/b-v٣",
    "a" * 10_000 + "-v0",
    "a/" * 5_000 + "b-v0",
]


def load(root: Path, dataset_id: str = "toy/mixed-v0", **options: object) -> LoadedDataset:
    config = DatasetConfig(id=dataset_id, path=str(root), **{"download": False, **options})
    return load_dataset(config, environments=ENVIRONMENTS, discount=0.9)


def refusal(root: Path, dataset_id: str = "toy/mixed-v0", **options: object) -> str:
    """The one line with which loading, and looking over, refuse a dataset."""
    with pytest.raises(DataError) as caught:
        load(root, dataset_id, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


@pytest.mark.parametrize("dataset_id", HOSTILE_IDS, ids=lambda value: ascii(value[:20]))
def test_a3_hostile_ids_are_refused_before_anything_is_opened(tmp_path: Path, dataset_id: str) -> None:
    root = tmp_path / "deep" / "root"
    make_dataset(tmp_path, "x-v0")
    make_dataset(root)
    before = sorted(tmp_path.rglob("*"))
    assert "is not of the form" in refusal(root, dataset_id, download=True)
    with pytest.raises(DataError, match="is not of the form"):
        download_dataset(dataset_id, root)
    assert sorted(tmp_path.rglob("*")) == before


def test_a3_the_command_answers_with_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "../../x", "--path", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert "'../../x'" in output.err


@pytest.mark.parametrize("level", ["toy", "toy/mixed-v0", "toy/mixed-v0/data", "toy/mixed-v0/data/main_data.hdf5"])
def test_a3_a_symbolic_link_does_not_lead_out_of_the_root(tmp_path: Path, level: str) -> None:
    make_dataset(tmp_path / "elsewhere")
    make_dataset(tmp_path / "root")
    (tmp_path / "root" / level).rename(tmp_path / "moved")
    (tmp_path / "root" / level).symlink_to(tmp_path / "elsewhere" / level)
    assert "leads out of" in refusal(tmp_path / "root")


def test_a3_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    make_dataset(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert load(tmp_path / "link").store.num_episodes == 5


def test_a3_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    (data / "main_data.hdf5").unlink()
    os.mkfifo(data / "main_data.hdf5")
    assert "is not a plain file" in refusal(tmp_path)


@pytest.mark.parametrize("key", ["env_spec", "eval_env_spec"])
@pytest.mark.parametrize("with_spaces", [True, False])
def test_a4_entry_points_of_the_metadata_never_run(tmp_path: Path, key: str, with_spaces: bool) -> None:
    data = make_dataset(tmp_path)
    marker = tmp_path / "ran"
    specification = {"id": "Toy-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {marker}"}}
    edit_metadata(data, **{key: json.dumps(specification)})
    if not with_spaces:
        edit_metadata(data, observation_space=None, action_space=None)
    assert load(tmp_path).task == ENVIRONMENTS["Toy-v0"]
    edit_metadata(data, env_spec=json.dumps({**specification, "id": "os:system"}))
    assert "environment 'os:system' is not known here" in refusal(tmp_path)
    assert not marker.exists()


def secret_file(folder: Path) -> Path:
    """Another HDF5 file, whose content must not be read."""
    with h5py.File(folder / "secret.hdf5", "w") as file:
        file["rewards"] = np.full(4, 77.0, dtype=np.float32)
    return folder / "secret.hdf5"


def link_externally(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    file["episode_0/rewards"] = h5py.ExternalLink(str(secret), "rewards")


def link_episode_externally(file: h5py.File, secret: Path) -> None:
    del file["episode_0"]
    file["episode_0"] = h5py.ExternalLink(str(secret), "/")


def link_softly(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    file["episode_0/rewards"] = h5py.SoftLink("/episode_0/rewards")


def store_externally(file: h5py.File, secret: Path) -> None:
    del file["episode_0/rewards"]
    file["episode_0"].create_dataset("rewards", shape=(4,), dtype="f4", external=[(str(secret), 0, 16)])


def map_virtually(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "rewards", shape=(4,))
    del file["episode_0/rewards"]
    file["episode_0"].create_virtual_dataset("rewards", layout)


@pytest.mark.parametrize("on_bad_episode", ["refuse", "drop"])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (link_externally, "episode_0/rewards is a link"),
        (link_episode_externally, "episode_0 is a link"),
        (link_softly, "episode_0/rewards is a link"),
        (store_externally, "episode_0/rewards is stored in another file"),
        (map_virtually, "episode_0/rewards is stored in another file"),
    ],
)
def test_a5_no_other_file_is_read(
    tmp_path: Path, attack: Callable[[h5py.File, Path], None], message: str, on_bad_episode: str
) -> None:
    data = make_dataset(tmp_path)
    secret = secret_file(tmp_path)
    edit_file(data, lambda file: attack(file, secret))
    assert message in refusal(tmp_path, on_bad_episode=on_bad_episode)


def test_a5_no_filter_plug_in_is_loaded(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)

    def filter_rewards(file: h5py.File) -> None:
        del file["episode_0/rewards"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file["episode_0"].id, b"rewards", h5py.h5t.IEEE_F32LE, space, properties)
        file["episode_0/rewards"][:] = 1.0

    edit_file(data, filter_rewards)
    assert "episode_0/rewards uses a filter plug-in" in refusal(tmp_path)


def test_a6_a_size_that_is_only_declared_is_refused_unread(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)

    def inflate(file: h5py.File) -> None:
        del file["episode_0/observations"]
        file["episode_0"].create_dataset("observations", shape=(2**31, 3), dtype="f8", chunks=(2**16, 3))

    edit_file(data, inflate)
    assert (data / "main_data.hdf5").stat().st_size < 100_000
    assert "declares 51539607552 bytes but stores far less" in refusal(tmp_path)


def test_a6_one_array_linked_many_times_counts_every_time(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)

    def multiply(file: h5py.File) -> None:
        for number in range(5, 200):
            file[f"episode_{number}"] = file["episode_1"]

    edit_file(data, multiply)
    edit_metadata(data, total_episodes=200)
    reader = hdf5_reader.Hdf5Episodes(data / "main_data.hdf5", "toy/mixed-v0", largest_total_bytes=4000)
    with pytest.raises(DataError, match="exceeds the 4000 bytes"):
        list(reader)


def test_a6_large_metadata_are_refused_unread(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    with (data / "metadata.json").open("r+b") as stream:
        stream.truncate(2**40)
    assert "metadata.json is larger than" in refusal(tmp_path)


def put(field: str, place: tuple[int, ...], value: float) -> Callable[[h5py.File], None]:
    """A mutation of one number of episode 1."""
    return lambda file: file[f"episode_1/{field}"].__setitem__(place if len(place) > 1 else place[0], value)


def put_array(field: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    """A mutation of a whole array of episode 1, which has 6 steps."""
    return lambda file: replace_array(file, f"episode_1/{field}", values)


def empty_episode(file: h5py.File) -> None:
    for field, shape in {"observations": (1, 3), "actions": (0, 2)}.items():
        replace_array(file, f"episode_1/{field}", np.zeros(shape, dtype=np.float32))
    for field in ("rewards", "terminations", "truncations"):
        replace_array(file, f"episode_1/{field}", np.zeros(0, dtype=np.float32))


def observations_of_a_dict_space(file: h5py.File) -> None:
    del file["episode_1/observations"]
    file["episode_1/observations/position"] = np.zeros((7, 3))


MUTATIONS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "nan observation": (put("observations", (6, 2), np.nan), "step 6: observation dimension 2 is nan"),
    "infinite observation": (put("observations", (0, 1), -np.inf), "step 0: observation dimension 1 is -inf"),
    "nan action": (put("actions", (3, 0), np.nan), "step 3: action dimension 0 is nan"),
    "nan reward": (put("rewards", (4,), np.nan), "step 4: reward is nan"),
    "infinite reward": (put("rewards", (4,), np.inf), "step 4: reward is inf"),
    "absurd reward": (put("rewards", (2,), 1e30), "step 2: reward is 1e+30"),
    "reward beyond float32": (put_array("rewards", np.array([0, 0, 0, 0, 0, 1e300])), "step 5: reward is 1e+300"),
    "action out of bounds": (put("actions", (5, 1), -1.01), "step 5: action dimension 1 is -1.01, outside [-1"),
    "terminated early": (put("terminations", (2,), True), "step 2: terminated before the last step (5)"),
    "truncated early": (put("truncations", (0,), True), "step 0: truncated before the last step (5)"),
    "no steps": (empty_episode, "has no steps"),
    "observation missing": (put_array("observations", np.zeros((6, 3))), "observations have shape (6, 3), expe"),
    "observation too many": (put_array("observations", np.zeros((8, 3))), "observations have shape (8, 3)"),
    "wrong observation dimension": (put_array("observations", np.zeros((7, 4))), "observations have shape (7, 4)"),
    "wrong action dimension": (put_array("actions", np.zeros((6, 1))), "actions have shape (6, 1), expected (6"),
    "flat actions": (put_array("actions", np.zeros(12)), "actions have shape (12,)"),
    "ragged flags": (put_array("truncations", np.zeros(5, bool)), "truncations have shape (5,), expected (6,)"),
    "rewards in columns": (put_array("rewards", np.zeros((6, 1))), "rewards have shape (6, 1)"),
    "scalar reward": (put_array("rewards", np.float32(1.0)), "rewards have shape ()"),
    "text for rewards": (put_array("rewards", np.array([b"1"] * 6)), "rewards has type |S1, expected numbers"),
    "complex rewards": (put_array("rewards", np.zeros(6, complex)), "rewards has type complex128"),
    "null rewards": (put_array("rewards", h5py.Empty("f4")), "rewards is empty"),
    "rewards missing": (lambda file: file.__delitem__("episode_1/rewards"), "has no rewards"),
    "dict observations": (observations_of_a_dict_space, "observations is a group, not an array"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a7_an_unfit_episode_is_refused_or_dropped_by_name(tmp_path: Path, name: str) -> None:
    data = make_dataset(tmp_path)
    whole = load(tmp_path).store
    mutate, message = MUTATIONS[name]
    edit_file(data, mutate)
    line = refusal(tmp_path)
    assert line.startswith("dataset toy/mixed-v0: episode 1")
    assert message in line
    loaded = load(tmp_path, on_bad_episode="drop")
    assert len(loaded.dropped) == 1
    assert message in loaded.dropped[0]
    expected = whole.select([0, 2, 3, 4])
    np.testing.assert_array_equal(loaded.store.observations, expected.observations)
    np.testing.assert_array_equal(loaded.store.returns_to_go, expected.returns_to_go)
    config = DatasetConfig(id="toy/mixed-v0", path=str(tmp_path), download=False)
    assert any(message in fault for fault in check_dataset(config, environments=ENVIRONMENTS).faults)


def test_a7_a_group_in_place_of_an_episode_and_unknown_entries(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)

    def replace_episode(file: h5py.File) -> None:
        del file["episode_1"]
        file["episode_1"] = np.zeros(3)

    edit_file(data, replace_episode)
    assert "episode 1: is not a group" in refusal(tmp_path)
    edit_file(data, lambda file: file.__setitem__("stranger", np.zeros(3)))
    assert "unexpected entry 'stranger'" in refusal(tmp_path)


def test_a7_a_dataset_without_fit_episodes_is_refused_even_when_dropping(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    edit_file(data, lambda file: [file[f"episode_{n}/rewards"].__setitem__(0, np.nan) for n in range(5)])
    assert "none of its 5 episodes is fit" in refusal(tmp_path, on_bad_episode="drop")


def test_a7_damage_anywhere_in_the_file_is_an_error_of_ours(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    whole = (data / "main_data.hdf5").read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), size=4):
            damaged[place] = generator.integers(256)
        (data / "main_data.hdf5").write_bytes(damaged)
        try:
            load(tmp_path, on_bad_episode="drop")
        except DataError as error:
            assert "toy/mixed-v0" in str(error)


@pytest.mark.parametrize("dataset", [each for each in HOSTILE_IDS if each.isprintable() and each != "-rf"])
def test_a3_hostile_names_of_files_are_answered_with_one_line(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("id", "file"):
        config = DatasetConfig(**{key: dataset}, path=str(tmp_path), download=False)
        with pytest.raises(DataError) as caught:
            load_dataset(config, environments=ENVIRONMENTS, discount=0.9)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert main(["data", "check", "--path", str(tmp_path), "--", dataset]) == 2
    assert capsys.readouterr().err.count("\n") == 1
