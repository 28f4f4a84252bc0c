"""The Atari game files that come with the emulator."""

from ale_py import roms


def count_roms() -> int:
    """How many game files the installed emulator package can load."""
    return len(roms.get_all_rom_ids())
