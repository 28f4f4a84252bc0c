"""What every test shares: one thread, quiet libraries, a local Ray.

Nothing of `system` is imported here at module level: pytest loads this file before jaxtyping's import hook,
which checks the annotations of `system` at run time, is in place.
"""

import os
from collections.abc import Iterator

import pytest

RAY_ATTEMPTS = 3

for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MPLBACKEND": "agg",
}.items():
    os.environ[_name] = _value
os.environ.setdefault("MUJOCO_GL", "egl")  # a machine without it may say `disabled`
for _name in ("MLFLOW_TRACKING_URI", "MINARI_DATASETS_PATH", "RAY_ADDRESS", "O2O_FAULT"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of this test session's own, on loopback, with four logical CPUs."""
    import ray

    for left in reversed(range(RAY_ATTEMPTS)):
        try:
            ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
            break
        except Exception:  # on a starved machine Ray's daemons give up on each other
            ray.shutdown()
            if not left:
                raise
    yield
    ray.shutdown()
