"""docs/ihe-law.md, written from the assertions and the tests that show them: `python -m tests.e2e.law.statement`.

A test is of the assertion that its name begins with; the first paragraph of its docstring says what is shown.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.e2e.law.assertions import ASSERTIONS, UNSEEN, Assertion

FOLDER = Path(__file__).resolve().parent
DOCUMENT = FOLDER.parents[2] / "docs" / "ihe-law.md"
_NAME = re.compile(r"test_(lab27|lab28|lab29|law)_([0-9]{3})(?:_.*)?")

HEAD = (FOLDER / "statement.md").read_text(encoding="utf-8")


def shown() -> dict[str, list[tuple[str, str]]]:
    """By assertion: its tests, each with what it shows. Raises ValueError for one that says nothing."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not (
                match := _NAME.fullmatch(node.name)
            ):
                continue
            words = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if not words:
                raise ValueError(f"{path.name}: {node.name} does not say what it shows")
            found.setdefault(f"{match[1].upper()}-{match[2]}", []).append((node.name, words))
    return found


def written() -> str:
    """The document."""
    tests = shown()
    lines = [HEAD.replace("{unseen}", UNSEEN).rstrip(), ""]
    lines += ["| assertion | binds | what it asks | what is shown |", "| --- | --- | --- | --- |"]
    lines += [_row(one, tests.get(one.id, [])) for one in ASSERTIONS]
    return "\n".join(lines) + "\n"


def _row(one: Assertion, tests: list[tuple[str, str]]) -> str:
    how = " ".join(f"{words} (`{name}`)" for name, words in tests) or f"**Not shown**: {one.without}"
    return f"| {one.id} | {one.actor} | {one.text} | {how} |"


if __name__ == "__main__":
    DOCUMENT.write_text(written(), encoding="utf-8")
