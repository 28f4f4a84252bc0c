"""A learner's process keeps the memory that it needs again."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from system.training.process_memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
for _ in range(3):
    bytearray(b"x") * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    bytearray(b"x") * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Of five large blocks, freed at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("not glibc's allocator")
    return int(done.stdout)


def test_a_freed_block_is_used_again() -> None:
    assert page_faults("kept") < 100 < page_faults("default")
