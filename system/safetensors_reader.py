"""Reads safetensors with torch alone, so that an exported policy needs nothing else.

A file is the length of its header (8 bytes, little-endian), the header (JSON: name → dtype, shape and where the
bytes lie), and the bytes. Nothing in it can execute code.
"""

import json
import math
from typing import Any

import torch

from system.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(data: bytes, source: str) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name.

    Args:
        data: its content.
        source: named in errors.

    Raises:
        CheckpointError: it is not safetensors, or was cut off.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise CheckpointError(f"{source}: not safetensors (no header of its length)")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = {str(name): entry for name, entry in header.items() if name != "__metadata__"}
        content = bytearray(data[8 + length :])
        return {name: _tensor(entry, content) for name, entry in entries.items()}
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: not safetensors ({type(error).__name__}: {error})") from None


def _tensor(entry: dict[str, Any], content: bytearray) -> torch.Tensor:
    dtype = DTYPES[entry["dtype"]]
    shape = [int(size) for size in entry["shape"]]
    start, end = (int(offset) for offset in entry["data_offsets"])
    if min([0, *shape]) < 0 or not 0 <= start <= end <= len(content):
        raise ValueError("a tensor lies outside the file")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor's size is not that of its shape")
    if start == end:
        return torch.empty(shape, dtype=dtype)
    # A copy: bytes of the file need not lie where elements of this size may.
    return torch.frombuffer(bytearray(content[start:end]), dtype=dtype).reshape(shape)
