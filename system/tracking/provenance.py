"""Where a run comes from, under the names by which MLflow's pages show it."""

import getpass
import subprocess
import sys
from pathlib import Path

DESCRIPTION = "mlflow.note.content"
GIT_SECONDS = 10.0


def source_tags() -> dict[str, str]:
    """User, command and, of a package in a git repository, the commit; `-dirty` if files have changed."""
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": " ".join(["o2o", *sys.argv[1:]])[:5000]}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        pass
    commit = _git("rev-parse", "HEAD")
    if commit:
        changed = _git("status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit + ("-dirty" if changed else "")
    return tags


def _git(*words: str) -> str:
    """What git says of the package's repository; nothing where there is none, or no git."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
