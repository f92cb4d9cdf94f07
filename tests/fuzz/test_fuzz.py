"""Nothing but wire errors, whatever the bytes: each codec is replayed with its seeds, and fuzzed for a minute in CI."""

from __future__ import annotations

import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.seeds import MOST_BYTES, kept, seeds
from tests.fuzz.targets import TARGETS, timely
from tests.fuzz.written import written

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
MOST_TIMES, ANYTHING_BYTES = 64, 64 << 10  # memory for an input; and what the smallest of them takes
HERE = f"{sys.implementation.name} {platform.python_version()} on {platform.machine()}"
# The wheel that is locked is made for this Python and processor only, see requirements-test.in.
FUZZER_RUNS = sys.platform == "linux" and sys.version_info[:2] == (3, 11) and platform.machine() == "x86_64"


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_raise_nothing(target: str) -> None:
    found = seeds(target)
    assert len(found) > 2
    for seed in found:
        timely(target, seed)


@pytest.mark.parametrize("target", TARGETS)
def test_an_input_takes_no_more_memory_than_so_many_times_its_size(target: str) -> None:
    """The longest of ours, after tables have been made that it shares with others."""
    seed = max((*kept(target), *written(target), *seeds(target)[-1:]), key=len)
    TARGETS[target](seed)
    tracemalloc.start()
    try:
        TARGETS[target](seed)
        assert tracemalloc.get_traced_memory()[1] <= MOST_TIMES * len(seed) + ANYTHING_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.long
@pytest.mark.timeout(SECONDS * 5)
@pytest.mark.parametrize("target", TARGETS)
def test_a_minute_of_fuzzing_finds_nothing(target: str, tmp_path: Path) -> None:
    if not FUZZER_RUNS:
        pytest.skip(f"atheris is there for CPython 3.11 on x86_64 only, this is {HERE}: {target} was not fuzzed")
    options = [f"-max_total_time={SECONDS}", f"-max_len={MOST_BYTES}", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-m", "tests.fuzz.run", target, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SECONDS * 4, check=False)
    said = done.stderr.decode("utf-8", "replace")
    findings = [f"{path.name}: {path.read_bytes()!r}" for path in sorted(tmp_path.iterdir())]
    assert not findings, f"{findings}\n{said[-4000:]}\nreplay: python -m tests.fuzz.run {target} FILE"
    assert done.returncode == 0, said[-4000:]
    assert "Done " in said, "it ran to its end"
