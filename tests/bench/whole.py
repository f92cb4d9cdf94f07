"""`scripts/bench all`: every measurement of docs/performance.md in one run, and that page made of it.

Each part runs as it does alone, one after another, on a machine that does nothing else; what it notes (record.py) goes
to docs/performance.json with the machine and the commit. A part that fails is named and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import record
from tests.bench.record import TARGETS
from tests.bench.yardstick import ROOT, say

PARTS: tuple[tuple[str, ...], ...] = (
    ("wire",),
    ("links", "--connections", "1", "16"),
    ("flow",),
    ("query",),
    ("api",),
    ("api", "--ingesting"),
    ("memory",),
)
PAGE, DATA = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
HEAD = """# Performance

Made by `scripts/bench all`; nobody edits it. Every figure is of one run on one machine, and the ratios are to the
ceilings of that run: reference servers that do the least that can answer (`limit-…` of the yardstick), with the
drivers and PostgreSQL on the same processors. A figure that is not met stands here as it is.

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


def page(data: dict[str, Any]) -> str:
    """docs/performance.md of a run: a line for every target, measured or not."""
    about = data["about"]
    lines = [
        f"Commit `{about['commit']}`, {about['at']}. {about['machine']}, Python {about['python']}.\n",
        "| target | what | measured | wanted | met | how |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = {row["name"]: row for row in data["figures"]}
    for name, target in TARGETS.items():
        sign = "≤" if target.least is None else "≥"
        wanted = f"{sign} {target.wanted:g} {target.unit}"
        if (row := found.get(name)) is None:
            lines.append(f"| {name} | {target.what} | not measured | {wanted} | | |")
            continue
        value = row["value"]
        met = "yes" if target.met(value) else "**no**"
        if target.stretch is not None and target.met(value, target.stretch):
            met = "yes, and the stretch goal"
        lines.append(f"| {name} | {target.what} | {value:.3g} {target.unit} | {wanted} | {met} | {row['how']} |")
    failed = data["failed"]
    more = f"\nParts that ended otherwise than with a table: {', '.join(failed)}.\n" if failed else ""
    return HEAD + "\n".join(lines) + "\n" + more


def run(parts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Every part, and what they noted. Status 1 is a table with a figure that is not met; another is a failure."""
    failed = []
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as file:
        for part, *options in parts:
            say(f"\n==== {' '.join((part, *options))}")
            command = [sys.executable, "-m", f"tests.bench.{part}", *options]
            done = subprocess.run(command, cwd=ROOT, env=os.environ | {record.FILE: file.name}, check=False)
            if done.returncode not in (0, 1):
                failed.append(part)
        figures = [json.loads(line) for line in file]
    return {"about": machine(), "figures": figures, "failed": failed}


def main() -> int:
    """Writes the page; 1 where a figure is not as wanted or a part failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench all", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[part[0] for part in PARTS], help="these parts")
    parser.add_argument("--to", type=Path, default=DATA, help="another file than docs/performance.json; no page then")
    options = parser.parse_args()
    data = run([part for part in PARTS if part[0] in (options.only or [part[0]])])
    options.to.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.to == DATA:
        PAGE.write_text(page(data), encoding="utf-8")
    met = [TARGETS[row["name"]].met(row["value"]) for row in data["figures"]]
    say(f"\n{sum(met)} of {len(met)} figures as wanted" + "".join(f"; {part} failed" for part in data["failed"]))
    return 0 if all(met) and not data["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
