"""`labora decode` and `labora driver`: what they print and how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from interface.cli import run_command
from interface.driver import registry

VECTOR = registry.packaged_path() / "sysmex_xn" / "vectors" / "result-1.trace"


def test_decode_prints_the_public_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", str(VECTOR), "--json"]) == 0
    (message,) = json.loads(capsys.readouterr().out)
    assert message == json.loads(VECTOR.with_suffix(".expected.json").read_text(encoding="utf-8"))[0]
    assert list(message) == ["protocol", "control_id", "sender", "patients", "specimens", "queries", "problems"]


def test_decode_reads_with_the_driver_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", str(VECTOR), "--driver", "generic_lis2", "--json"]) == 0
    (message,) = json.loads(capsys.readouterr().out)
    assert message["specimens"][0]["specimen_id"] is None
    assert message["problems"]


def test_decode_shows_a_person_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", str(VECTOR)]) == 0
    said = capsys.readouterr()
    assert "specimen S-100001 (patient, patient 1 of the message)" in said.out
    assert "6.42" in said.out
    assert said.err == "decoded with sysmex_xn 1\n"


def test_a_file_without_messages_fails_in_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    assert run_command(["decode", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == "labora: neither LIS2-A2 records nor HL7 segments were found\n"
    assert run_command(["decode", str(tmp_path / "missing")]) == 2


def test_a_driver_of_the_other_protocol_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", str(VECTOR), "--driver", "generic_hl7"]) == 1
    assert "reads hl7, the capture is lis2" in capsys.readouterr().err


def test_driver_list_names_every_driver(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [driver.id for driver in registry.find_all()]
    assert all(row["vectors"] for row in rows)


def test_driver_show_says_what_it_is_known_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "show", "sysmex_xn", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["tier"] == "captured"
    assert shown["evidence"]
    assert shown["specimen_id"] == ["O.4.3", "O.3.3"]


def test_driver_test_passes_and_fails_with_its_vectors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["driver", "test", "roche_cobas_c311"]) == 0
    shutil.copytree(registry.packaged_path() / "sysmex_xn", tmp_path / "sysmex_xn")
    expected = tmp_path / "sysmex_xn" / "vectors" / "result-1.expected.json"
    expected.write_text(expected.read_text(encoding="utf-8").replace('"13.9"', '"13.8"', 1), encoding="utf-8")
    capsys.readouterr()
    assert run_command(["driver", "test", "sysmex_xn", "--driver-path", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "FAIL sysmex_xn result-1" in said.out
    assert "expected '13.8', got '13.9'" in said.err


@pytest.mark.parametrize("arguments", [[], ["sysmex_xn", "--all"]])
def test_driver_test_wants_one_or_all(arguments: list[str]) -> None:
    assert run_command(["driver", "test", *arguments]) == 2


def test_an_unknown_or_broken_driver_fails_in_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["driver", "show", "acme"]) == 1
    assert capsys.readouterr().err.startswith("labora: there is no driver 'acme'")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "driver.toml").write_text("[driver]\n", encoding="utf-8")
    assert run_command(["driver", "list", "--driver-path", str(tmp_path)]) == 1
    assert "driver.id: is missing" in capsys.readouterr().err
