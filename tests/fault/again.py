"""`scripts/soak F9 [OPTIONS]`: the tests that the plan has for a fault, again and again, and what its soak column
counts of them (`tests.fault.plan.SOAK`).

Each round is a pytest of its own, with a seed of its own. A test says how much of the soak it was by
`record_property(COUNTED, number)`; of Hypothesis the examples are counted that passed.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.fault.plan import COUNTED, PLAN, SOAK, Unit

ROOT: Final = Path(__file__).parent.parent.parent
PYTEST: Final = (sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider",
                          "-o", "junit_family=xunit1", "-o", "timeout=600")  # fmt: skip
_EXAMPLES: Final = re.compile(rb"(\d+) passing")


@dataclass(slots=True)
class Rounds:
    """What has been run of a fault's tests."""

    fault: str
    rounds: int = 0
    tests: int = 0
    failed: int = 0
    skipped: int = 0
    examples: int = 0
    told: int = 0
    seconds: float = 0.0

    @property
    def counted(self) -> int:
        by = {Unit.TOLD: self.told, Unit.EXAMPLES: self.examples, Unit.SECONDS: int(self.seconds)}
        return by.get(SOAK[self.fault].unit, self.rounds)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.rounds} rounds, {self.tests} tests{skipped}, {self.seconds:.0f} s"

    def add(self, report: Path, took_s: float) -> None:
        """A round, as its report (JUnit's XML, by pytest) has it."""
        root = ElementTree.parse(report).getroot()  # noqa: S314  our own
        for suite in root.iter("testsuite"):
            tests, failures, errors, skipped = (
                int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            )
            self.tests += tests - skipped
            self.failed += failures + errors
            self.skipped += skipped
        for one in root.iter("property"):
            name, value = one.get("name", ""), one.get("value", "")
            if name == COUNTED:
                self.told += int(value)
            elif name.startswith("hypothesis-statistics-"):
                self.examples += sum(map(int, _EXAMPLES.findall(base64.b64decode(value))))
        self.rounds += 1
        self.seconds += took_s


def again(fault: str, stop: Callable[[], bool], seed: int, cycles: int, examples: int) -> Rounds:
    """Rounds of a fault's tests until they are stopped, or one has failed, whose output is printed. `seed`: of the
    first; `cycles`, `examples`: how many are done in a round by a test that asks for them."""
    done, tests = Rounds(fault), (*(SOAK[fault].only or PLAN[fault]), *SOAK[fault].more)
    bounds = {"LABORA_SOAK_CYCLES": str(cycles), "LABORA_EXAMPLES": str(examples)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        while not done.failed and not stop():
            began, number = time.monotonic(), str(seed + done.rounds)
            seeds = (f"--randomly-seed={number}", f"--hypothesis-seed={number}")
            ran = subprocess.run(
                [*PYTEST, *seeds, f"--junitxml={report}", *tests], cwd=ROOT, capture_output=True, check=False,
                env={**os.environ, **bounds, "LABORA_FAULT_SEED": number},
            )  # fmt: skip
            if ran.returncode:
                print(f"seed {number}:\n{ran.stdout.decode('utf-8', 'replace')[-20_000:]}")
                done.failed += not report.exists()  # or the report says so
            if report.exists():
                done.add(report, time.monotonic() - began)
                report.unlink()
    return done
