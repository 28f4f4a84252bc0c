"""Which tests hold which module; quick ones only, those that are likeliest to notice first."""

MODULES: dict[str, tuple[str, ...]] = {
    "system/families/masked_trajectory/learner.py": (
        "tests/unit/test_masked_loss.py",
        "tests/unit/test_algorithms.py",
        "tests/unit/test_discrete_actions.py",
    ),
    "system/families/masked_trajectory/model.py": (
        "tests/unit/test_models.py",
        "tests/unit/test_masked_loss.py",
        "tests/unit/test_discrete_actions.py",
        "tests/contracts/test_planner_contract.py",
    ),
    "system/families/masked_trajectory/masks.py": ("tests/unit/test_masks.py",),
    "system/families/world_action/losses.py": (
        "tests/unit/test_jowa_losses.py",
        "tests/unit/test_jowa.py",
        "tests/unit/test_few_shot_learning.py",
    ),
    "system/planning/forward_mpc.py": (
        "tests/contracts/test_planner_contract.py",
        "tests/analytic/test_utility.py",
        "tests/analytic/test_categorical_actions.py",
    ),
    "system/planning/beam_search.py": (
        "tests/analytic/test_beam_search.py",
        "tests/contracts/test_discrete_planner_contract.py",
    ),
    "system/planning/utility.py": (
        "tests/analytic/test_utility.py",
        "tests/contracts/test_planner_contract.py",
        "tests/analytic/test_categorical_actions.py",
    ),
    "system/values/iql.py": (
        "tests/unit/test_iql.py",
        "tests/unit/test_algorithms.py",
        "tests/unit/test_discrete_actions.py",
    ),
    "system/values/critics.py": (
        "tests/unit/test_critics.py",
        "tests/unit/test_algorithms.py",
        "tests/unit/test_discrete_actions.py",
    ),
    "system/data/replay/episode_log.py": (
        "tests/unit/test_episode_log.py",
        "tests/unit/test_durability.py",
        "tests/unit/test_frame_replay.py",
    ),
    "system/data/replay/episode_record.py": ("tests/unit/test_episode_log.py",),
    "system/data/replay/rate_limiter.py": ("tests/properties/test_rate_limiter.py",),
    "system/data/replay/sampling.py": ("tests/contracts/test_replay_contract.py",),
    "system/data/replay/step_draws.py": (
        "tests/unit/test_step_draws.py",
        "tests/contracts/test_replay_contract.py",
        "tests/unit/test_frame_replay.py",
    ),
    "system/data/replay/buffer.py": ("tests/contracts/test_replay_contract.py", "tests/unit/test_frame_replay.py"),
    "system/runs/checkpoint.py": ("tests/unit/test_checkpoint.py", "tests/unit/test_durability.py"),
    "system/sealed_folder.py": ("tests/unit/test_checkpoint.py", "tests/unit/test_durability.py"),
    "system/files.py": ("tests/unit/test_durability.py", "tests/unit/test_checkpoint.py"),
    "system/training/collapse_guard.py": ("tests/unit/test_collapse_guard.py",),
}
