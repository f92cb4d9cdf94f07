"""The blocks of the pages: what stands between fences, and whether it is commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
# `sh`: commands. `console`: commands after `$ `, and below each what it says, where … stands for anything.
COMMANDS: Final = ("sh", "console")
OTHER: Final = ("toml", "json", "text", "http", "yaml", "sql", "nginx", "mermaid", "ini", "html")
# A mark after the language says where a block is run, when not here: `root` by the booted guest of tests/systemd;
# `fails` that the status of its commands is not 0.
MARKS: Final = frozenset({"root", "fails"})
_FENCE: Final = re.compile(r"^ *```(.*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """`line`: of the fence, from 1. `kind`: the language."""

    page: str
    line: int
    kind: str
    marks: frozenset[str]
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        """The first command, which names the block in a table."""
        return self.text.splitlines()[0].strip().removeprefix("$ ")

    def said(self) -> list[tuple[str, list[str]]]:
        """The commands of a console, each with the lines below it."""
        found: list[tuple[str, list[str]]] = []
        goes_on = False
        for line in self.text.splitlines():
            if goes_on:
                found[-1] = (f"{found[-1][0]}\n{line}", [])
            elif line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
            goes_on = line.endswith("\\") and (goes_on or line.startswith("$ "))
        return found


def pages() -> list[Path]:
    """Every page a person reads, without decisions, which are of their day, and what is made of the code."""
    found = [path for path in DOCS.rglob("*.md") if path.parent.name not in ("decisions", "reference")]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(found)]


def name(path: Path) -> str:
    """As the tables and this module call a page."""
    return str(path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT))


def blocks(path: Path) -> Iterator[Block]:
    """In their order. A fence that is not closed ends with the page."""
    opened: tuple[int, list[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and opened is None:
            opened, lines = (number, fence[1].split()), []
        elif fence and opened is not None:
            at, words = opened
            indent = min((len(one) - len(one.lstrip()) for one in lines if one.strip()), default=0)
            text = "".join(f"{one[indent:]}\n" for one in lines)
            yield Block(name(path), at, words[0] if words else "", frozenset(words[1:]), text)
            opened = None
        else:
            lines.append(line)


def every() -> list[Block]:
    return [block for path in pages() for block in blocks(path)]
