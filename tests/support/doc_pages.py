"""The pages that users read, taken apart: links, blocks of code, commands, keys."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "system" / "families").rglob("*.md")])
RUNBOOK = ROOT / "deploy" / "README.md"
PLACEHOLDERS = {
    "CONFIG": "smoke",
    "CHECKPOINT": "runs/smoke-0",
    "RUN": "runs/smoke-0",
    "RUN...": "runs/smoke-0",
    "FILE": "smoke",
    "PATH": "runs/smoke-0",
    "DIR": "folder",
    "DATASET": "o2o/hopper/medium-replay-v0",
    "ID": "Hopper-v5",
    "NAME": "name",
    "KEY=VALUE": "planner.horizon=1",
    "…": "planner.horizon=1",
    "...": "",
}
"""What stands in commands for something of the user's, and an example of it."""

VERBS_ALONE = {"check", "convert", "--help"}
"""What follows a verb where a sentence only mentions it."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOOP = re.compile(r"^(for \w+ in [^;]*; do|done)$")


def name_of(page: Path) -> str:
    """Relative to the repository."""
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return [block for named, block in _FENCED.findall(text) if named == language]


def code_lines(text: str) -> list[str]:
    """Lines of indented blocks, those that go on behind a backslash joined."""
    unfenced = _FENCED.sub("", text)
    indented = re.findall(r"^    (.*)$", unfenced, re.MULTILINE)
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(indented)).split("\n")


def inline_code(text: str) -> list[str]:
    """What stands between backticks, in one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _FENCED.sub("", text))]


def commands(text: str) -> list[list[str]]:
    """Words of every command in indented blocks and, of the project's own, between backticks.

    Assignments are filled in, loops run through once, with 0; braces are expanded.
    """
    found: list[list[str]] = []
    values = {"seed": "0"}
    for line in code_lines(text):
        found += _commands_of(line, values)
    for code in inline_code(text):
        if code.startswith("o2o ") or code.startswith("make "):
            found += _commands_of(code, values)
    return found


def o2o_commands(page: Path) -> list[list[str]]:
    """The words behind `o2o`, placeholders filled in; a bare verb that a sentence mentions is left out."""
    filled = [
        [PLACEHOLDERS.get(word, word) for word in words[1:] if PLACEHOLDERS.get(word) != ""]
        for words in commands(page.read_text())
        if words[0] == "o2o"
    ]
    for words in filled:
        if words[:2] == ["collect", PLACEHOLDERS["CONFIG"]]:
            words[1] = "pong-mixed"
    return [words for words in filled if words == ["doctor"] or not VERBS_ALONE.issuperset(words[1:])]


def _commands_of(line: str, values: dict[str, str]) -> Iterator[list[str]]:
    stripped = line.strip()
    assigned = re.fullmatch(r"(\w+)='(.*)'", stripped)
    if assigned:
        values[assigned[1]] = assigned[2]
    if assigned or not stripped or _LOOP.match(stripped):
        return
    for name, value in values.items():
        stripped = stripped.replace(f"${name}", value)
    # What follows two spaces explains the command.
    stripped = re.split(r"\s{2,}|\s#\s", stripped)[0]
    lexer = shlex.shlex(stripped, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";&|"):
            if words:
                yield words
            words = []
        else:
            words += _expanded(word)
    if words:
        yield words


def _expanded(word: str) -> list[str]:
    braces = re.fullmatch(r"([\w./-]*)\{([\w,]+)\}([\w./-]*)", word)
    if not braces:
        return [word]
    return [f"{braces[1]}{middle}{braces[3]}" for middle in braces[2].split(",")]
