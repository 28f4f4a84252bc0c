"""Numbers of workers as a number, or as a mapping that says what each of them takes as well."""

from typing import Any

KEYS = ("learners", "rollout_workers", "evaluators")


def expand_workers(tree: dict[str, Any]) -> dict[str, Any]:
    """`{learners: {num: 2, gpus: 1}}` as `{learners: 2, placement: {learners: {gpus: 1}}}`, in place.

    Args:
        tree: one layer of a run configuration, before it is laid over another.
    """
    for key in KEYS:
        if not isinstance(tree.get(key), dict):
            continue
        given = tree.pop(key)
        if "num" in given:
            tree[key] = given.pop("num")
        placement = tree.setdefault("placement", {})
        if isinstance(placement, dict) and isinstance(placement.get(key, {}), dict):
            placement[key] = {**placement.get(key, {}), **given}
    return tree
