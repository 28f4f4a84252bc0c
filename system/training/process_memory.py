"""Memory of a process that frees and needs the same large tensors at every update."""

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT_BYTES = 2**31 - 1
_GROWN_BYTES = 2**26


def keep_freed_memory() -> bool:
    """Has the allocator keep what is freed, up to 2 GiB, for what is needed next.

    By default glibc gives every block of 32 MiB back to the kernel when it is freed, and gets it anew, one page
    fault and 4 KiB of zeros at a time: logits of a batch of frames are such blocks. An update of the world-action
    model at its default size had 38,000 faults, and took a ninth of its time in them.

    Returns:
        False where the allocator is another one, which stays as it is.
    """
    if sys.platform != "linux":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _GROWN_BYTES))
    return all(set_option(option, value) == 1 for option, value in options)
