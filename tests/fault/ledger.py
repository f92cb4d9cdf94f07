"""The ledger: what has been broken, how often, and what was found. Its rows are docs/evidence.jsonl, a JSON object a
line, in the order in which they were entered; docs/evidence.md is made of them (`python -m tests.fault.ledger`).

A row is never changed. `record` enters one for a program that is not of this package:
`scripts/soak record simulation --count 20000 --what "whole daemon" --text "seeds 1 to 20,000"`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import orjson

from tests.fault.plan import SOAK

ROOT: Final = Path(__file__).parent.parent.parent
ROWS: Final = ROOT / "docs" / "evidence.jsonl"
PAGE: Final = ROOT / "docs" / "evidence.md"
PREFACE: Final = Path(__file__).with_name("evidence.head.md")


class Kind(Enum):
    """What a row counts. `found`: nothing, it tells of a fault of ours."""

    KILL = "kill"  # of the daemon
    PG_KILL = "pg-kill"  # of PostgreSQL
    POWER_CUT = "power-cut"
    OTHER = "other"  # orderly ends, reloads, cut sessions, freezes, locks, full disks
    SIMULATION = "simulation"
    FUZZ = "fuzz"
    PLAN = "plan"  # rounds of the tests of a fault of the plan; `what` begins with its name
    FOUND = "found"


GOALS: Final = {  # the kind, what is counted, how many are wanted before this is called done, and at last
    Kind.KILL: ("kills of the daemon (SIGKILL)", 2_000, 10_000),
    Kind.PG_KILL: ("kills of PostgreSQL (SIGKILL to all of it)", 200, 1_000),
    Kind.POWER_CUT: ("power cuts (file system shut down unflushed)", 600, 3_000),
    Kind.OTHER: ("orderly ends, reloads, cut sessions, freezes, locks", 100, 1_000),
    Kind.SIMULATION: ("simulated seeds", 20_000, 1_000_000),
    Kind.FUZZ: ("fuzz executions", 8_000_000, 100_000_000),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One run. `what`: which database, parser or system under test; `failed`: how many of `count` showed a fault;
    `acknowledged`, `lost`, `doubled`, `wrong`: messages, and what the audit says of them; `next_ack_p50_s`,
    `next_ack_p95_s`: from the break to the next acknowledgement; `test`: the regression test of a fault found."""

    date: str
    commit: str
    kind: str
    what: str
    count: int = 0
    failed: int = 0
    seed: int | None = None
    acknowledged: int | None = None
    lost: int | None = None
    doubled: int | None = None
    wrong: int | None = None
    next_ack_p50_s: float | None = None
    next_ack_p95_s: float | None = None
    by: str = ""
    text: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        Kind(self.kind)
        datetime.strptime(self.date, "%Y-%m-%d").replace(tzinfo=UTC)


def commit() -> str:
    """What runs: the commit, with a + where files differ from it."""
    git = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}"]
    named = subprocess.run([*git, "rev-parse", "--short=9", "HEAD"], check=True, capture_output=True, text=True).stdout
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "interface", "migrations"], check=False).returncode
    return named.strip() + ("+" if differs else "")


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _said(row: Row) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if value not in (None, "") or name == "what"}


def append(*rows: Row, to: Path = ROWS) -> None:
    """Enter rows, whole or not at all."""
    text = b"".join(orjson.dumps(_said(row)) + b"\n" for row in rows)
    descriptor = os.open(to, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def read(path: Path = ROWS) -> list[Row]:
    """Raises ValueError or TypeError for a line that is no row."""
    return [Row(**orjson.loads(line)) for line in path.read_bytes().splitlines()] if path.exists() else []


# ---- the page --------------------------------------------------------------------------------------------------------


def page(rows: Sequence[Row]) -> str:
    runs = [row for row in rows if row.kind != Kind.FOUND.value]
    found = [row for row in rows if row.kind == Kind.FOUND.value]
    return "\n".join(
        [PREFACE.read_text().rstrip(), "", "## So far", "", *_totals(runs), "",
         "## The rest of the fault plan", "", *_planned(runs), "",
         "## Faults found", "", *_found(found), "", "## Runs", "", *_runs(runs), ""]
    )  # fmt: skip


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([str(cell) for cell in line] for line in lines)]
    return [f"| {' | '.join(line)} |" for line in cells]


def _totals(rows: Sequence[Row]) -> list[str]:
    by: dict[Kind, list[Row]] = defaultdict(list)
    for row in rows:
        by[Kind(row.kind)].append(row)
    return _table(
        ["what", "so far", "acknowledged", "lost", "doubled", "otherwise wrong", "failed", "wanted", "goal"],
        ([name, _number(sum(row.count for row in by[kind])), *(_sum(by[kind], one) for one in _COUNTED),
          _number(sum(row.failed for row in by[kind])), _number(wanted), _number(goal)]
         for kind, (name, wanted, goal) in GOALS.items()),
    )  # fmt: skip


def _planned(rows: Sequence[Row]) -> list[str]:
    """Of each fault whose tests are run again and again: how much was counted, and what the plan wants."""
    of = {fault: [row for row in rows if row.what.partition(",")[0] == fault] for fault in SOAK}
    return _table(
        ["fault", "what is counted", "so far", "failed", "wanted"],
        ([fault, one.counted, _number(sum(row.count for row in of[fault])),
          _number(sum(row.failed for row in of[fault])), one.wanted] for fault, one in SOAK.items()),
    )  # fmt: skip


_COUNTED: Final = ("acknowledged", "lost", "doubled", "wrong")


def _sum(rows: Iterable[Row], name: str) -> str:
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return _number(sum(values)) if values else ""


def _number(value: int) -> str:
    return f"{value:,}"


def _found(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["None yet."]
    return _table(
        ["date", "commit", "by", "what was wrong", "its test"],
        ([row.date, row.commit, row.by, row.text, f"`{row.test}`"] for row in rows),
    )


def _runs(rows: Sequence[Row]) -> list[str]:
    def cell(value: Any) -> str:
        return "" if value is None else _number(value) if isinstance(value, int) else str(value)

    names = ["date", "commit", "kind", "what", "count", "failed", "seed", *_COUNTED, "next_ack_p50_s", "next_ack_p95_s",
             "by", "text"]  # fmt: skip
    head = [name.removesuffix("_s").replace("_", " ") + (", s" if name.endswith("_s") else "") for name in names]
    return _table(
        head,
        ([str(row.seed) if name == "seed" and row.seed is not None else cell(getattr(row, name)) for name in names]
         for row in reversed(rows)),
    )  # fmt: skip


def write() -> None:
    """The page anew, where its rows have changed."""
    PAGE.write_text(page(read()))


def row_of(**values: Any) -> Row:
    """A row of today's and of this commit; raises TypeError for a column that there is not."""
    known = {field.name for field in fields(Row)}
    if unknown := set(values) - known:
        raise TypeError(f"a row has no {', '.join(sorted(unknown))}")
    return Row(**({"date": today(), "commit": commit()} | values))


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{PAGE}\n")
