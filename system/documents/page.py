"""The report as one HTML page: nothing is loaded from anywhere, and nothing runs in it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from system.documents.text import Section, TextTable

TITLE = "Offline-to-online report"

# Tables scroll by themselves on narrow screens, so that the page never does.
STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1a1a1a;
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; white-space: nowrap; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid #d0d0d0; text-align: left; }
th { border-bottom: 2px solid #1a1a1a; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { font-size: 0.9rem; color: #444; }
""".strip()

# Even if something slipped through the escapes, a browser would neither run nor fetch it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_page(parts: Sequence[tuple[Section, Mapping[str, Path]]]) -> str:
    """The whole page.

    Args:
        parts: each group's section, and its pictures (PNG and GIF files) by caption.
    """
    body = "\n".join(_section(section, pictures) for section, pictures in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{TITLE}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section, pictures: Mapping[str, Path]) -> str:
    parts = [f"<section>\n<h2>{escape(section.title)}</h2>", f"<p>{escape(section.introduction)}</p>"]
    parts += [_picture(caption, path) for caption, path in pictures.items()]
    parts.append(_table(section.scores))
    if section.differences is not None:
        parts.append(_table(section.differences))
    if section.remarks:
        parts.append(f"<p>{escape(' '.join(section.remarks))}</p>")
    return "\n".join([*parts, "</section>"])


def _picture(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    kind = path.suffix.removeprefix(".")
    return (
        f'<figure>\n<img src="data:image/{kind};base64,{data}" alt="{text}">\n'
        f"<figcaption>{text}</figcaption>\n</figure>"
    )


def _table(table: TextTable) -> str:
    marks = [' class="number"' if name in table.numbers else "" for name in table.columns]
    head = "".join(
        f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(table.columns, marks, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="table">\n<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )
