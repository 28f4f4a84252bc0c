"""What a call to an actor can come to: an answer, a failure that reads as in one process, or a lost actor."""

from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from system.errors import SystemFailure


def answer(call: ray.ObjectRef) -> Any:
    """The answer to a call, once there is one.

    Raises:
        SystemFailure: the actor's method raised it, or the actor's constructor failed, which no new actor
            would mend.
        RayActorError: the actor was lost.
        RayTaskError: the method raised something unforeseen; its traceback is in the message.
    """
    try:
        return ray.get(call)
    except RayTaskError as error:
        if isinstance(error.cause, SystemFailure):
            raise error.cause from None
        raise
    except RayActorError as error:
        if error.actor_init_failed:
            raise SystemFailure(f"a worker could not start: {str(error).strip().splitlines()[-1]}") from None
        raise


def describe(error: RayActorError) -> str:
    """One line on how an actor was lost."""
    return str(error).strip().splitlines()[0].rstrip(".")
