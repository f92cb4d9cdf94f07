"""`scripts/bench all`: every measurement of docs/performance.md in one run, and that page made of it.

Each part runs as it does alone, one after another, on a machine that does nothing else; what it notes (record.py) goes
to docs/performance.json with the machine and the commit. A part that fails is named and the others go on. About
twenty-five minutes; what takes longer is run by itself and entered:

    LABORA_BENCH_RECORD=found scripts/bench endurance --messages 1000000   # P13-growth
    LABORA_BENCH_RECORD=found scripts/bench api --observations 16000000    # P10
    scripts/bench all --enter found
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import record
from tests.bench.record import TARGETS
from tests.bench.yardstick import ROOT, ran, say, scratch_folder, stopped_by_signal

PARTS: tuple[tuple[str, ...], ...] = (
    ("wire",),
    ("compare", "--rounds", "3"),
    ("links", "--connections", "16", "--only", "mllp", "--rounds", "1"),
    ("flow",),
    ("query", "--rounds", "400"),
    ("api", "--ingesting", "--backlog", "27000"),
    ("memory", "--messages", "20000", "--kills", "10"),
)
PART_S = 900.0  # then a part is told to end, and the next begins
PAGE, DATA = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
HEAD = """# Performance

Made by `scripts/bench all`; nobody edits it. Every figure is of one run on one machine, and the ratios are to the
ceilings of that run: reference servers that do the least that can answer (`limit-…` of the yardstick), with the
drivers and PostgreSQL on the same processors. `others` is what the rest of the machine took meanwhile: above 20 % a
figure is not to be quoted. One that is not met stands here as it is. What a ratio comes to differs with the processor:
below stands the last whole run on each other kind.

"""


def _said(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> dict[str, str]:
    """What it ran on, and of which commit."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": _said("git", "describe", "--always", "--dirty"),
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} x {model.strip()}, {memory:.0f} GB, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _figure(value: float) -> str:
    """Three digits, but nothing left out before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _kind(about: dict[str, str]) -> str:
    """The processors it ran on, without the system."""
    return about["machine"].partition(",")[0]


def _table(data: dict[str, Any], entered: dict[str, Any]) -> str:
    """A line for every target, measured or not."""
    about = data["about"]
    # Of what two parts measure it is the first that counts, the yardstick's own comparison.
    found = entered | {row["name"]: row for row in reversed(data["figures"])}
    lines = [
        f"Commit `{about['commit']}`, {about['at']}. {about['machine']}, Python {about['python']}.\n",
        "| target | what | measured | wanted | met | how |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, target in TARGETS.items():
        sign = "≤" if target.least is None else "≥"
        wanted = f"{sign} {_figure(target.wanted)} {target.unit}"
        if name not in found:
            lines.append(f"| {name} | {target.what} | not measured | {wanted} | | |")
            continue
        row, value = found[name], found[name]["value"]
        met = "yes" if target.met(value) else "**no**"
        if target.stretch is not None and target.met(value, target.stretch):
            met = "yes, and the stretch goal"
        by_itself = f"; by itself, `{row['about']['commit']}`, {row['about']['at']}" if "about" in row else ""
        lines.append(
            f"| {name} | {target.what} | {_figure(value)} {target.unit} | {wanted} | {met} | {row['how']}{by_itself} |"
        )
    failed = data["failed"]
    more = f"\nParts that ended otherwise than with a table: {', '.join(failed)}.\n" if failed else ""
    return "\n".join(lines) + "\n" + more


def page(data: dict[str, Any]) -> str:
    """docs/performance.md of a run, with the last on each other kind of processor."""
    others = [f"\n## {kind}\n\n{_table(run, {})}" for kind, run in sorted(data.get("others", {}).items())]
    return HEAD + _table(data, data.get("entered", {})) + "".join(others)


def others(data: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The last run on each kind of processor but that of `data`; `kept`: what the page was of until now."""
    known = kept.get("others", {}) | ({_kind(kept["about"]): kept} if kept else {})
    runs = {kind: {name: run[name] for name in ("about", "figures", "failed")} for kind, run in known.items()}
    return {kind: run for kind, run in runs.items() if kind != _kind(data["about"])}


def noted(file: Path) -> list[dict[str, Any]]:
    """What a part has written down."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def run(parts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Every part, and what they noted. Status 1 is a table with a figure that is not met; another is a failure."""
    failed = []
    with scratch_folder() as folder:
        file = folder / "noted"
        file.touch()
        for part, *options in parts:
            began = time.monotonic()
            say(f"\n==== {' '.join((part, *options))}")
            command = [sys.executable, "-m", f"tests.bench.{part}", *options]
            if ran(command, os.environ | {record.FILE: str(file)}, PART_S) not in (0, 1):
                failed.append(part)
            say(f"==== {part}: {time.monotonic() - began:.0f} s")
        return {"about": machine(), "figures": noted(file), "failed": failed}


def enter(data: dict[str, Any], file: Path) -> dict[str, Any]:
    """With what a part found that was run by itself, by the commit that there is now."""
    rows = {row["name"]: row | {"about": machine()} for row in noted(file)}
    return data | {"entered": data.get("entered", {}) | rows}


def _write(data: dict[str, Any], to: Path) -> None:
    to.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if to == DATA:
        PAGE.write_text(page(data), encoding="utf-8")


def main() -> int:
    """Writes the page; 1 where a figure is not as wanted or a part failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench all", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[part[0] for part in PARTS], help="these parts")
    parser.add_argument("--to", type=Path, default=DATA, help="another file than docs/performance.json; no page then")
    parser.add_argument("--enter", type=Path, metavar="FILE", help="nothing is run: add what FILE has to the page")
    options = parser.parse_args()
    if options.only and options.to == DATA:
        parser.error("the page is of a full run: --only needs --to")
    stopped_by_signal()
    kept = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    if options.enter:
        _write(enter(kept, options.enter), DATA)
        return 0
    data = run([part for part in PARTS if part[0] in (options.only or [part[0]])])
    _write(data | {"entered": kept.get("entered", {}), "others": others(data, kept)}, options.to)
    met = [TARGETS[row["name"]].met(row["value"]) for row in data["figures"]]
    say(f"\n{sum(met)} of {len(met)} figures as wanted" + "".join(f"; {part} failed" for part in data["failed"]))
    return 0 if all(met) and not data["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
