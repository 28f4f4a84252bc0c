"""Layouts of episodes that can be read, a file each; a line here makes one known."""

from system.data.sources import d4rl, dqn_replay, minari, ogbench, robomimic, tables
from system.data.sources.protocol import register_source

for _source in (minari.SOURCE, dqn_replay.SOURCE, d4rl.SOURCE, robomimic.SOURCE, ogbench.SOURCE, tables.SOURCE):
    register_source(_source)
