"""Fuzz one parser: `python -m tests.fuzz.run TARGET [options of libFuzzer] [--seeded FOLDER | FOLDER | FILE]`.

A FILE alone is run once: how a finding is replayed. `-max_total_time=60` ends after a minute. What is found is written
to `-artifact_prefix`, by default here, and printed. `--seeded`: a folder that gets our own inputs too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

INSTRUMENTED = [
    "interface.wire", "interface.driver", "interface.domain", "interface.config", "interface.render.map_read",
    "interface.render.map_plan", "interface.render.map_table", "interface.render.concept_map", "interface.render.sheet",
    "interface.api.fhir.bundle", "interface.api.fhir.said", "interface.api.fhir.element", "interface.api.fhir.values",
    "interface.flow.client_keys",
]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over; the process ends with a status other than 0 when something was found."""
    import atheris

    target, options = arguments[0], arguments[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.seeds import write_seeds
        from tests.fuzz.targets import timely
    with tempfile.TemporaryDirectory() as folder:
        if "--seeded" in options:
            options.remove("--seeded")
            print(f"{target}: {write_seeds(target, Path(options[-1]))} seeds", file=sys.stderr)
        elif all(option.startswith("-") for option in options):
            print(f"{target}: {write_seeds(target, Path(folder))} seeds", file=sys.stderr)
            options.append(folder)
        atheris.Setup([sys.argv[0], *options], lambda data: timely(target, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
