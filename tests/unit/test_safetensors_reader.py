"""The package's own reader of safetensors gives what the library gives, and refuses what is not such a file."""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save

from system.errors import CheckpointError
from system.safetensors_reader import DTYPES, read_safetensors


def tensors() -> dict[str, torch.Tensor]:
    values = torch.arange(-3, 9)
    made = {name: values.reshape(3, 4).to(dtype) for name, dtype in DTYPES.items()}
    odd = torch.ones(3, dtype=torch.uint8)
    return made | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "odd": odd}


def test_it_reads_what_the_library_wrote() -> None:
    data = save(tensors(), metadata={"made": "by a test"})
    read, expected = read_safetensors(data, "file"), load(data)
    assert read.keys() == expected.keys() == tensors().keys()
    for name, value in expected.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def test_what_is_read_can_be_written_to() -> None:
    read = read_safetensors(save({"a": torch.zeros(2)}), "file")
    read["a"] += 1.0
    assert read["a"].tolist() == [1.0, 1.0]


def with_header(header: object, content: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"\xff" * 64,
        lambda: (10**9).to_bytes(8, "little") + b"{}",
        lambda: with_header([1]),
        lambda: with_header({"a": 3}),
        lambda: with_header(entry(dtype="F33")),
        lambda: with_header(entry(shape=[3])),
        lambda: with_header(entry(shape=[-1, -2])),
        lambda: with_header(entry(data_offsets=[4, 12])),
        lambda: with_header(entry(data_offsets=[8, 0])),
        lambda: with_header(entry(), b"\0" * 7),
        lambda: b"\x02\0\0\0\0\0\0\0{]",
    ],
)
def test_what_is_not_such_a_file_is_refused_by_name(make: Callable[[], bytes]) -> None:
    with pytest.raises(CheckpointError, match="some file: not safetensors"):
        read_safetensors(make(), "some file")


def test_the_checks_above_start_from_a_sound_file() -> None:
    assert read_safetensors(with_header(entry()), "file")["a"].tolist() == [0.0, 0.0]
