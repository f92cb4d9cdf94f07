"""The demo ends well, and only when what an EMR reads is what the analyzers sent."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from interface.demo.plan import PlannedSpecimen, all_specimens, expected, make_plan
from interface.demo.report import compare
from interface.demo.site import HEAD, LINKS, DemoError, prepare
from interface.domain.model import ValueKind
from tests.interrupts import hear_interrupts

LABORA = Path(sys.executable).with_name("labora")


def start(state_dir: Path, *options: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LABORA_")}
    command = [str(LABORA), "demo", "--state-dir", str(state_dir), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        preexec_fn=hear_interrupts,
    )


def ports(state_dir: Path) -> list[int]:
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", (state_dir / "config.toml").read_text())]


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.timeout(300)
def test_the_demo_succeeds_cold_and_fails_warm_when_one_played_value_is_tampered_with(empty_state_dir: Path) -> None:
    cold = start(empty_state_dir, "--exit")
    out, err = cold.communicate()
    assert cold.returncode == 0, out + err
    table = out.strip().splitlines()
    assert table[0].split() == ["specimen", "test", "value", "unit", "flag", "status"]
    column = table[0].index("status")
    rows = [line for line in table if line.startswith("S-")]
    assert len({row.split()[0] for row in rows}) >= 5
    assert {row[column:] for row in rows} == {"final"}
    assert re.search(r"^Held: specimen \S+, code \S+, '.*': no_such_specimen$", out, re.MULTILINE)
    assert "What was read is what was sent." in out
    assert "reading back over FHIR" in err
    assert all(map(refused, ports(empty_state_dir))), "the daemon still listens"

    warm = start(empty_state_dir, "--exit", "--tamper")
    out, err = warm.communicate()
    assert warm.returncode == 1, out + err
    assert "DIFFERENCE" in out
    assert "What was read is not what was sent." in out


@pytest.mark.timeout(300)
def test_the_demo_stays_for_a_reader_until_it_is_interrupted(state_dir: Path) -> None:
    (state_dir / "config.toml").write_text(HEAD)  # a demo has been here
    running = start(state_dir)
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line)
        if "Ctrl-C stops it" in line:
            break
    try:
        found = re.search(
            r"^curl -H 'Authorization: (Bearer \S+)' '(http://127\.0\.0\.1:\S+)'$", "".join(said), re.MULTILINE
        )
        assert found, "".join(said)
        request = urllib.request.Request(found[2], headers={"Authorization": found[1]})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            bundle = json.load(answer)
        assert {entry["resource"]["resourceType"] for entry in bundle["entry"]} == {"Observation"}
    finally:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate()
    assert running.returncode == 0, err
    assert "Traceback" not in err
    assert all(map(refused, ports(state_dir))), "the daemon still listens"


def test_the_demo_will_not_start_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failing = start(tmp_path / "file" / "state", "--exit")
    _, err = failing.communicate()
    assert failing.returncode == 1
    assert err.splitlines()[-1].startswith("labora: the demo cannot write to ")


# ---- the comparison -------------------------------------------------------------------------------------------------


@pytest.fixture
def specimen() -> PlannedSpecimen:
    """A planned specimen cut down to two plain numbers."""
    whole = next(one for one in all_specimens(make_plan()) if one.link is LINKS[0])
    plain = [sent for sent in whole.sent if sent.kind is ValueKind.NUMERIC and not set(sent.flags) - {"N"}]
    return replace(whole, sent=tuple(plain[:2]))


def results(specimen: PlannedSpecimen) -> list[dict[str, Any]]:
    return [{"code": sent.code, "raw_value": sent.raw_value, "held": []} for sent in specimen.sent]


def observations(specimen: PlannedSpecimen) -> list[dict[str, Any]]:
    found = []
    for sent in specimen.sent:
        want = expected(specimen.link, sent)
        assert want is not None
        found.append(
            {
                "status": "final",
                "code": {"coding": [{"system": "urn:labora:test", "code": want.test.code}]},
                "valueQuantity": {"value": want.number, "unit": want.test.unit, "code": want.test.unit},
            }
        )
    return found


def test_what_was_read_as_it_was_sent_has_no_difference(specimen: PlannedSpecimen) -> None:
    assert compare(specimen, results(specimen), observations(specimen)).differences == ()


def test_a_changed_value_a_changed_unit_and_a_status_that_is_not_final_are_differences(
    specimen: PlannedSpecimen,
) -> None:
    for key, value in (("value", Decimal("0.001")), ("code", "g/L"), ("comparator", "<")):
        read = observations(specimen)
        read[0]["valueQuantity"][key] = value
        assert len(compare(specimen, results(specimen), read).differences) == 1
    read = observations(specimen)
    read[0]["status"] = "preliminary"
    assert len(compare(specimen, results(specimen), read).differences) == 1


def test_a_result_that_is_missing_or_was_never_sent_is_a_difference(specimen: PlannedSpecimen) -> None:
    assert len(compare(specimen, results(specimen), observations(specimen)[1:]).differences) == 1
    assert (
        len(compare(specimen, results(specimen), [*observations(specimen), *observations(specimen)]).differences) == 2
    )
    assert compare(specimen, results(specimen)[1:], observations(specimen)[1:]).differences
    assert compare(
        specimen, [*results(specimen), {"code": "X", "raw_value": "1", "held": []}], observations(specimen)
    ).differences


def test_a_result_held_without_a_cause_is_a_difference_and_one_held_with_a_cause_is_not(
    specimen: PlannedSpecimen,
) -> None:
    held = results(specimen)
    held[0]["held"] = ["unmapped_code"]
    outcome = compare(specimen, held, observations(specimen)[1:])
    assert len(outcome.differences) == 1
    assert outcome.held[0].reasons == ("unmapped_code",)
    nobodys = replace(specimen, tests=())
    for one in held:
        one["held"] = ["no_such_specimen"]
    assert compare(nobodys, held, []).differences == ()


def test_a_held_result_that_the_emr_reads_is_a_difference(specimen: PlannedSpecimen) -> None:
    nobodys, held = replace(specimen, tests=()), results(specimen)
    for one in held:
        one["held"] = ["no_such_specimen"]
    assert len(compare(nobodys, held, observations(specimen)).differences) == 2


def test_tampering_changes_one_played_value_and_nothing_that_is_expected() -> None:
    plain, tampered = make_plan(), make_plan(tamper=True)
    assert all_specimens(plain) == all_specimens(tampered)
    assert [one.source == other.source for one, other in zip(plain, tampered, strict=True)].count(False) == 1


@pytest.mark.parametrize("there", ["config.toml", "pg/data/PG_VERSION"])
def test_a_sites_own_folder_is_refused_and_left_as_it_is(tmp_path: Path, there: str) -> None:
    """Its configuration would be written over, and the demo's people made in its database."""
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[[link]]\n")
    with pytest.raises(DemoError, match="is not the demo's"):
        prepare(tmp_path, "demo-1")
    assert file.read_text() == "[[link]]\n" and [each.name for each in tmp_path.iterdir()] == [Path(there).parts[0]]
    prepare(tmp_path / "demo", "demo-1")
    assert prepare(tmp_path / "demo", "demo-2").links[0].organization == "demo-2"
