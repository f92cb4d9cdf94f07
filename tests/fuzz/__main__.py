"""Fuzz one parser: `python -m tests.fuzz PARSER --executions N`. What is found is written and printed; status 1 then.

LABORA_PURE=1 is set, so that the sources run and coverage is seen; `--compiled` fuzzes the compiled rooms, blindly.
The inputs that were kept (`corpus/`), the drivers' vectors and those that we wrote are where it begins; what it adds is
left in `--corpus`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from interface.compiled import PURE

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 512  # long inputs make few tries


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parser", help="a target of tests/fuzz/targets.py")
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=MOST_BYTES, help="of an input, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer's dice; 0: another each time")
    parser.add_argument("--corpus", type=Path, help="a folder for what is found to be new (default: thrown away)")
    parser.add_argument("--findings", type=Path, default=Path(), help="a folder for what breaks a promise")
    parser.add_argument("--compiled", action="store_true", help="run the compiled rooms, where there are some")
    chosen = parser.parse_args(arguments)
    environment = {name: value for name, value in os.environ.items() if name != PURE}
    if not chosen.compiled:
        environment[PURE] = "1"
    with tempfile.TemporaryDirectory() as folder:
        corpus = chosen.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        options = [
            f"-runs={chosen.executions}", f"-max_len={chosen.bytes}", f"-seed={chosen.seed}", "-report_slow_units=600",
            "-print_final_stats=1", f"-artifact_prefix={chosen.findings.resolve()}/{chosen.parser}-",
        ]  # fmt: skip
        command = [sys.executable, "-m", "tests.fuzz.run", chosen.parser, *options, "--seeded", str(corpus.resolve())]
        return 1 if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode else 0


if __name__ == "__main__":
    sys.exit(main())
