"""A8: hostile or careless YAML is refused in one line that names the key or the line, and runs nothing."""

import os
from pathlib import Path

import pytest

from system.cli.options import PRESETS
from system.config import RunConfig
from system.config.loading import MAX_FILE_BYTES, load_config
from system.errors import ConfigError

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"

CORPUS = {
    "unknown key": ("planner:\n  horizn: 4\n", "planner.horizn: unknown key; did you mean planner.horizon?"),
    "duplicate key": ("planner:\n  horizon: 4\n  horizon: 5\n", "bad.yaml:3: planner.horizon: key given twice"),
    "duplicate section": ("planner: {}\nplanner: {}\n", "bad.yaml:2: planner: key given twice"),
    "number for a string": ("dataset:\n  id: 3\n", "dataset.id: 3 is not a string"),
    "string for a number": ("planner:\n  horizon: four\n", "planner.horizon: 'four' is not an integer"),
    "negative rate": (
        "masked_trajectory:\n  training:\n    learning_rate: -1e-4\n",
        "masked_trajectory.training.learning_rate: -0.0001 is out of range",
    ),
    "octal is no number": ("seed: 010\n", "seed: '010' is not an integer"),
    "sexagesimal is no number": ("seed: 1:30\n", "seed: '1:30' is not an integer"),
    "yes is no boolean": ("deterministic: yes\n", "deterministic: 'yes' is not true or false"),
    "infinite": ("discount: 1e999\n", "discount: inf is not a finite number"),
    "endless digits": ("seed: " + "9" * 5000 + "\n", "does not fit its type"),
    "anchors bomb": (BOMB, "bad.yaml:1: anchors and aliases are not accepted"),
    "self reference": ("a: &a [*a]\n", "bad.yaml:1: anchors and aliases are not accepted"),
    "merge key": ("<<: {seed: 1}\n", "<<: unknown key; known: seed, "),
    "deep nesting": ("a: " + "[" * 5000, "bad.yaml:1: nested too deeply"),
    "binary tag": ("seed: !!binary aGVsbG8=\n", "seed: the tag 'tag:yaml.org,2002:binary' is not accepted"),
    "own tag": ("planner: !planner {horizon: 2}\n", "bad.yaml:1: planner: the tag '!planner' is not accepted"),
    "key is a list": ("? [a, b]\n: 1\n", "is not a plain name"),
    "key is a number": ("1: 2\n", "the key '1' is not a plain name"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "bad.yaml:2: "),
    "no mapping": ("- a\n- b\n", "bad.yaml: holds ['a', 'b'] where keys and values are expected"),
    "not YAML": ("planner: {horizon: 4\n", "bad.yaml:2: "),
    "control characters": ("seed: \x00\n", "bad.yaml: not valid YAML text"),
    "preset is a list": ("preset: [demo]\n", "preset: ['demo'] is not a name"),
}


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(RunConfig, path, presets=PRESETS)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("case", CORPUS)
def test_the_corpus_is_refused_by_name(case: str, tmp_path: Path) -> None:
    text, expected = CORPUS[case]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert expected in refusal(path)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['{}']",
        "!!python/object/new:os.system ['{}']",
        "!!python/name:os.system {}",
    ],
)
def test_a_python_tag_runs_nothing(tag: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "bad.yaml"
    path.write_text("seed: " + tag.format(f"touch {marker}") + "\n")
    assert "seed: the tag 'tag:yaml.org,2002:python" in refusal(path)
    with pytest.raises(ConfigError, match="is not accepted"):
        load_config(RunConfig, None, ["seed=" + tag.format(f"touch {marker}")], presets=PRESETS)
    assert not marker.exists()


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("seed: 1\n" + "#" * 5_000_000)
    assert f"is more than the {MAX_FILE_BYTES} allowed" in refusal(path)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80seed")
    assert "cannot be read" in refusal(tmp_path / "binary.yaml")
    assert "no such configuration file" in refusal(tmp_path)
    assert "no such configuration file" in refusal(tmp_path / "missing.yaml")
    assert "no such configuration file" in refusal(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "no such configuration file" in refusal(tmp_path / "pipe.yaml")
    refusal(tmp_path / ("x" * 5000))
    refusal(tmp_path / "nul\0.yaml")


@pytest.mark.parametrize("name", ["", ".", "..", "demo\0", "demo\n", "x" * 5000, "*", "DEMO ", "-rf"])
def test_a_preset_is_only_ever_one_of_the_list(name: str) -> None:
    with pytest.raises(ConfigError):
        load_config(RunConfig, name, presets=PRESETS)
