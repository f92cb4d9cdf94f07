"""`scripts/bench compare`: the yardstick's own comparison, with our daemon among its targets: P1, P2, P5, P7 and P8.

What follows the options of this command is the yardstick's: `--case`, `--only`, `--rounds`. Before each measurement it
waits until what the one before left to be decided is decided, for `--quiet-wait` seconds at most.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from interface.flow.actors import TOKEN_PREFIX
from interface.store.ids import uuid7
from tests.bench import target
from tests.bench.links import FRAMES
from tests.bench.record import TARGETS, note
from tests.bench.yardstick import ROOT, NoYardstick, Yardstick, ran, say, scratch_folder, stopped_by_signal

TABLE = ROOT / "tests" / "bench" / "targets.toml"
QUIET_S = 60.0  # to decide what 4 s of acknowledgements leave takes half of it


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure: of a target in a case, beside a ceiling in the same case or another, divided by so many."""

    name: str
    case: str
    ours: str
    ceiling_case: str
    ceiling: str
    parts: int = 1


RATIOS = (
    Ratio("P2", "mllp-1", "labora-mllp", "mllp-1", "limit-pg-group"),
    Ratio("P1-ack", "mllp-16", "labora-mllp", "mllp-16", "limit-pg-group"),
    Ratio("P1-sustained", "sustained-16", "labora-mllp", "sustained-16", "limit-pg-full"),
    Ratio("P5-1", "astm-1", "labora-astm", "mllp-1", "limit-pg-group", FRAMES),
    Ratio("P5-16", "astm-16", "labora-astm", "mllp-16", "limit-pg-group", FRAMES),
    Ratio("P7", "http-read-16", "labora-read", "http-read-16", "limit-http-read"),
    Ratio("P8", "http-search-16", "labora-search", "http-search-16", "limit-http-search"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What the rounds of one target in one case gave: medians, and how many answers were bad."""

    per_s: float
    others: float
    p95_ms: float
    p99_ms: float
    rounds: int
    bad: int

    @classmethod
    def read(cls, line: str) -> tuple[tuple[str, str], Row]:
        """Of a line of the yardstick's file, with the names of its case and its target."""
        found = json.loads(line)
        rounds = found["rounds"]
        p95, p99 = (median(one["latency_ms"][name] for one in rounds) for name in ("p95", "p99"))
        others, bad = median(one["others"] for one in rounds), sum(one["bad"] for one in rounds)
        return (found["case"], found["target"]), cls(found["per_s"], others, p95, p99, len(rounds), bad)


def judged(lines: Sequence[str]) -> bool:
    """Says and notes every ratio of which both sides were measured; whether each is as wanted and nothing was bad."""
    rows = dict(Row.read(line) for line in lines)
    met = not any(row.bad for row in rows.values())
    say("")
    for one in RATIOS:
        ours, ceiling = rows.get((one.case, one.ours)), rows.get((one.ceiling_case, one.ceiling))
        if ours is None or ceiling is None:
            continue
        value, wanted = ours.per_s / (ceiling.per_s / one.parts), TARGETS[one.name]
        how = f"{ours.per_s:,.0f}/s of {ceiling.per_s:,.0f}/s, median of {ours.rounds}, others {ours.others:.0%}"
        say(f"{one.name:<14}{value:>6.2f} {wanted.unit} (wanted {wanted.wanted})  {how}")
        met &= note(one.name, value, how)
        if one.name == "P8":
            met &= all([note("P8-p95", ours.p95_ms, how), note("P8-p99", ours.p99_ms, how)])
    return met


def _environment(folder: Path) -> dict[str, str]:
    """What the targets need of ours: where the code is, and a token that is to be valid."""
    token = f"{TOKEN_PREFIX}.{uuid7().hex}.{secrets.token_urlsafe(32)}"
    return os.environ | {"PYTHONPATH": str(ROOT), target.FOLDER: str(folder), target.TOKEN: token}


def run(yardstick: Yardstick, options: Sequence[str]) -> bool:
    """Runs the comparison; whether all that was measured of it is as wanted."""
    with scratch_folder() as folder:
        table, rows = folder / "targets.toml", folder / "rows.jsonl"
        table.write_text(TABLE.read_text().replace("$LABORA/", f"{ROOT}/"))
        command = [sys.executable, str(yardstick.folder / "compare.py"), str(table), "--json", str(rows)]
        quiet = () if "--quiet-wait" in options else ("--quiet-wait", str(QUIET_S))
        status = ran([*command, *quiet, *options], _environment(folder))
        met = rows.exists() and judged(rows.read_text().splitlines())
        if status:
            raise NoYardstick(f"compare.py ended with status {status}")
    return met


def main() -> int:
    """1 when a ratio is not as wanted or an answer was bad, 2 when the yardstick is missing or fails."""
    stopped_by_signal()
    if "--help" in sys.argv or "-h" in sys.argv:
        say(__doc__ or "")
    try:
        return 0 if run(Yardstick(), sys.argv[1:]) else 1
    except NoYardstick as error:
        say(str(error), sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
