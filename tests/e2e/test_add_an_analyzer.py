"""docs/add-an-analyzer.md is true: its commands, as they stand, lead from a capture to a verified result in FHIR."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from interface.driver import registry
from interface.driver.manifest import Tier
from tests.docs.shell import opened
from tests.e2e.daemon import free_ports

PAGE = Path(__file__).parents[2] / "docs" / "add-an-analyzer.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAPPED = {"GLUC": "14749-6", "CREJ": "14682-9", "CRPL": "1988-5"}
OF_A_PERSON = ("MRN-77812", "Oosterbaan", "Wilhelmina", "19710509", "1971-05-09", "Drummond", "K-4471882", "20260105")


def commands() -> str:
    return "\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def walk(folder: Path, script: str) -> tuple[int, str]:
    """Run the page's commands in one shell; everything it started is gone afterwards."""
    with opened(folder, {}) as shell:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=shell.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=540)
        finally:
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass  # all has ended by itself, as it should
    return process.returncode, out


def value(observation: dict[str, Any]) -> tuple[Decimal, str | None]:
    quantity = observation["valueQuantity"]
    return Decimal(quantity["value"]), quantity.get("comparator")


def test_no_program_is_written_on_the_way() -> None:
    script = commands()
    assert len(BLOCK.findall(PAGE.read_text(encoding="utf-8"))) >= 12
    assert not re.search(r"python|perl|\.py\b", script)


@pytest.mark.timeout(600)
def test_the_commands_of_the_page_lead_from_a_capture_to_a_verified_result_in_fhir(empty_state_dir: Path) -> None:
    api, line = free_ports(2)
    script = commands().replace("127.0.0.1:8080", f"127.0.0.1:{api}").replace("127.0.0.1:4001", f"127.0.0.1:{line}")
    status, out = walk(empty_state_dir, script)
    assert status == 0, out[-4000:]
    acme = empty_state_dir / "acme"

    # what the analyzer measured is what the EMR reads
    simulated = json.loads((acme / "simulated.json").read_text())
    (run,) = [one for one in simulated["specimens"] if one["role"] == "patient"]
    bundle = json.loads((acme / "observations.json").read_text(), parse_float=str, parse_int=str)
    observations = [entry["resource"] for entry in bundle["entry"]]
    assert {one["status"] for one in observations} == {"final"}
    read = {one["code"]["coding"][0]["code"]: value(one) for one in observations}
    assert read == {MAPPED[one["code"]]: (Decimal(one["value"]), one["comparator"]) for one in run["results"]}, out[
        -4000:
    ]
    assert len(read) == 3
    assert [one["role"] for one in simulated["specimens"]] == ["qc", "patient"]

    # the driver says what is known of it, and nobody of the capture is left in its folder
    driver = registry.load("acme_five", [acme / "drivers"])
    assert (driver.tier, driver.vendor, str(driver.paths.specimen_id[0])) == (Tier.CAPTURED, "Acme", "O.3.2")
    assert driver.unverified
    for path in (path for path in (acme / "drivers").rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in OF_A_PERSON if word in text], path.name
    assert "held: unmapped_code" in out  # nothing was released before somebody had mapped it
