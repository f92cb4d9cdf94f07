"""Fuzz one codec: `python -m tests.fuzz.run TARGET [options of libFuzzer] [FOLDER | FILE]`.

A FILE alone is run once: how a finding is replayed. `-max_total_time=60` ends after a minute. What is found is written
to `-artifact_prefix`, by default here, and printed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over; the process ends with a status other than 0 when something was found."""
    import atheris

    target, options = arguments[0], arguments[1:]
    with atheris.instrument_imports(include=["interface.wire", "interface.driver", "interface.domain.values"]):
        from tests.fuzz.seeds import write_seeds
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory() as folder:
        if all(option.startswith("-") for option in options):
            print(f"{target}: {write_seeds(target, Path(folder))} seeds", file=sys.stderr)
            options.append(folder)
        atheris.Setup([sys.argv[0], *options], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
