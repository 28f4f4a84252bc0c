"""What can go wrong, as one exception tree.

A `RequestError` is the caller's to mend: the command line prints its one line and exits with 2.
Everything else derived from `SystemFailure` means the run itself failed.
"""


class SystemFailure(Exception):
    """Base of every error this package raises on purpose."""


class RequestError(SystemFailure):
    """The request was wrong; the message names the key, file, episode or step."""


class ConfigError(RequestError):
    """A configuration key or value is wrong; names the key and, if unknown, the nearest right one."""


class DataError(RequestError):
    """A dataset is missing or broken; names the dataset and, where there is one, episode and step."""


class CheckpointError(RequestError):
    """A checkpoint is missing, incomplete, corrupt or of another model; names the file."""


class RunDirectoryInUse(SystemFailure):
    """Another live process owns the run directory (exit code 4)."""


class ClusterLost(SystemFailure):
    """The Ray cluster went away; the run can be resumed (exit code 3)."""


class Interrupted(SystemFailure):
    """The run was asked to stop by a signal, after a checkpoint was written.

    Attributes:
        signal_number: the signal, so that the exit code is 128 + signal_number.
    """

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by signal {signal_number}")
        self.signal_number = signal_number


class LearningDiverged(SystemFailure):
    """Update after update gave a gradient that is NaN or infinite; none of them was made."""


class ShapeError(SystemFailure):
    """A tensor does not have the documented shape."""


class PlannerError(SystemFailure):
    """Planning met values it must not act on (NaN or +inf utilities)."""


class WorkerLost(SystemFailure):
    """A worker process died and could not do its call.

    Attributes:
        role: `rollout_worker`, `replay` or `learner`.
        message: how.
    """

    def __init__(self, role: str, message: str = ""):
        super().__init__(role, message)
        self.role = role
        self.message = message

    def __str__(self) -> str:
        return f"{self.role} lost{': ' + self.message if self.message else ''}"
