"""What was freed is the system's again, also after a large block that had glibc keep what is smaller; what stays is not
looked through for cycles."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from interface.footprint import give_back

def resident_mb():
    text = open("/proc/self/status").read()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024

if sys.argv[1] == "give back":
    give_back()
large = b"x" * (24 << 20)
del large
before = resident_mb()
blocks = [b"x" * (1 << 20) for _ in range(64)]
last = [b"x" * 100_000 for _ in range(10)]
del blocks
print(resident_mb() - before)
"""


def kept_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_what_was_freed_is_given_back() -> None:
    assert kept_mb("give back") < 8
    assert kept_mb("keep") > 48, "else nothing is shown: the C library gives it back by itself"


def test_what_is_there_when_a_process_is_ready_is_not_looked_through_again() -> None:
    program = """
import gc
from interface.footprint import settle

gc.disable()
kept, usual = [[] for _ in range(100_000)], gc.get_threshold()
settle()
print(gc.get_freeze_count() >= 100_000, gc.isenabled(), gc.get_threshold()[0] > usual[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3
