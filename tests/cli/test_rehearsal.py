"""`labora driver test` plays vectors in the simulator both ways, and says so when one way is not as it should be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from interface import cli
from interface.cli import rehearsal
from interface.cli.rehearsal import rehearse
from interface.driver import registry
from interface.simulator import load

DRIVERS = [driver.id for driver in registry.find_all()]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Copies of two drivers, to be spoilt."""
    for name in ("sysmex_xn", "mindray_bc5380"):
        shutil.copytree(registry.packaged_path() / name, tmp_path / name)
    return tmp_path


def said(site: Path, driver_id: str, vector: str) -> str:
    (found,) = [one.difference for one in rehearse(driver_id, [site]) if one.vector == vector]
    return found


@pytest.mark.parametrize("driver_id", DRIVERS)
def test_every_vector_is_taken_by_its_receiver_and_its_answer_by_its_analyzer(driver_id: str) -> None:
    outcomes = rehearse(driver_id)
    assert outcomes
    assert not [one for one in outcomes if one.difference]


def test_a_receiver_that_takes_something_else_is_said(site: Path) -> None:
    file = site / "sysmex_xn" / "vectors" / "result-1.expected.json"
    file.write_text(file.read_text().replace('"6.42"', '"6.43"', 1))
    assert said(site, "sysmex_xn", "result-1").startswith("played to its receiver: [0].specimens[0].results[0].value")


@pytest.mark.parametrize("driver_id", ["sysmex_xn", "mindray_bc5380"])
def test_orders_that_the_analyzer_does_not_understand_are_said(site: Path, driver_id: str) -> None:
    file = site / driver_id / "vectors" / "query-with-orders.work.json"
    work = json.loads(file.read_text())
    work["specimens"][0]["tests"].append("NOPE")
    file.write_text(json.dumps(work))
    assert "the analyzer understands" in said(site, driver_id, "query-with-orders")


async def test_an_answer_that_never_comes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_ANSWER_WAIT_S", 0.05)
    driver = registry.load("sysmex_xn")
    vector = next(one for one in registry.vectors("sysmex_xn") if one.name == "query-with-orders")
    silent = replace(load(vector.trace), transmissions=())
    found = await rehearsal._from_host(driver, load(vector.trace), silent, ["S-100001"], None)
    assert found == "the answer did not arrive"


def test_the_command_tells_both_ways(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["driver", "test", "sysmex_xn", "--live", "--driver-path", str(site)]) == 0
    file = site / "sysmex_xn" / "vectors" / "query-with-orders.work.json"
    file.write_text(file.read_text().replace('"WBC"', '"WBCX"'))
    assert cli.run_command(["driver", "test", "sysmex_xn", "--live", "--driver-path", str(site)]) == 1
    told = capsys.readouterr()
    assert "FAIL sysmex_xn query-with-orders" in told.out
