"""Plays a checkpoint with RLlib's own environment runners.

    python deploy/examples/play_in_rllib.py runs/demo-0 --policy forward_mpc_m --episodes 8 --runners 2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from system.distributed.environment import prepare_environment


def main(words: Sequence[str] | None = None) -> None:
    """Prints the mean return of some episodes."""
    parser = argparse.ArgumentParser(description="play a checkpoint with RLlib's environment runners")
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a run directory")
    parser.add_argument("--policy", help="default: the configured planner")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--runners", type=int, default=1, help="Ray actors that play")
    parser.add_argument("--address", help="of a running Ray cluster; default: one of its own")
    arguments = parser.parse_args(words)

    prepare_environment(arguments.address)  # before Ray is imported
    from system.distributed.cluster import cluster_session
    from system.distributed.planner_module import rllib_config

    config = rllib_config(arguments.checkpoint, policy=arguments.policy)
    config.evaluation(evaluation_num_env_runners=arguments.runners, evaluation_duration=arguments.episodes)
    with cluster_session(arguments.address, num_cpus=arguments.runners):
        algorithm = config.build_algo()
        results = algorithm.evaluate()["env_runners"]
        algorithm.stop()
    print(f"{results['num_episodes']} episodes, mean return {results['episode_return_mean']:.1f}")


if __name__ == "__main__":
    main()
