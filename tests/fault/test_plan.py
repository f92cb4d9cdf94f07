"""The table of the fault plan names tests that there are, and the ledger's page says what its rows do."""

from __future__ import annotations

import ast
from base64 import b64encode
from dataclasses import asdict
from functools import cache
from pathlib import Path

import orjson
import pytest

from tests.fault import ledger
from tests.fault.again import Rounds
from tests.fault.ledger import GOALS, Kind, Row, append, page, read
from tests.fault.plan import COUNTED, PLAN, SOAK
from tests.fault.rig import Fault

ROOT = Path(__file__).parent.parent.parent


@cache
def _tests_of(path: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    body = ast.parse((ROOT / path).read_text()).body
    return {one.name: one for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_fault_of_the_plan_has_a_test_of_the_short_run_and_each_is_there() -> None:
    assert list(PLAN) == [f"F{number}" for number in range(1, 20)]
    for fault, tests in PLAN.items():
        for test in tests:
            path, _, name = test.partition("::")
            found = _tests_of(path).get(name)
            assert found is not None, f"{fault}: there is no {test}"
            assert not any("mark.long" in ast.unparse(one) for one in found.decorator_list), f"{fault}: {test} is long"


@pytest.mark.parametrize("fault", SOAK)
def test_what_is_run_again_and_again_is_there(fault: str) -> None:
    for test in (*SOAK[fault].only, *SOAK[fault].more):
        path, _, name = test.partition("::")
        assert name in _tests_of(path), f"{fault}: there is no {test}"


def test_what_a_round_says_is_added_up(tmp_path: Path) -> None:
    said = b64encode(b"  - during generate phase:\n    - 100 passing, 0 failing, and 12 invalid test cases")
    report = tmp_path / "report.xml"
    report.write_text(
        f"""<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"><properties>
        <property name="hypothesis-statistics-a" value="{said.decode()}"/></properties>
        <testcase><properties><property name="{COUNTED}" value="20"/></properties></testcase>
        </testsuite></testsuites>"""
    )
    done = Rounds("F8")
    for _ in range(2):
        done.add(report, 1.5)
    assert done == Rounds("F8", rounds=2, tests=10, failed=4, skipped=4, examples=200, told=40, seconds=3.0)
    assert [Rounds(fault, 2, examples=200, told=40, seconds=3.9).counted for fault in ("F6", "F8", "F9", "F19")] == [
        40, 200, 3, 2,
    ]  # fmt: skip


def test_what_the_harness_can_break_is_in_its_short_run() -> None:
    text = (ROOT / "tests/fault/test_loop.py").read_text().partition("@pytest.mark.long")[0]
    assert all(f"Fault.{fault.name}" in text.partition("async def test_")[2] for fault in Fault)


# ---- the ledger ------------------------------------------------------------------------------------------------------

ROW = Row("2026-11-26", "abc", "kill", "embedded database", count=25, failed=0, seed=7, acknowledged=900, lost=0,
          doubled=0, wrong=0, next_ack_p50_s=1.1, next_ack_p95_s=1.4, by="scripts/soak")  # fmt: skip


def test_the_page_is_made_of_the_rows() -> None:
    assert ledger.PAGE.read_text() == page(read())


def test_rows_add_up_and_come_back_as_they_were_entered(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    found = Row("2026-11-26", "abc", "found", "", text="it lost a message", test="tests/x.py::test_y", by="kill")
    append(ROW, ROW, to=path)
    append(found, to=path)
    assert read(path) == [ROW, ROW, found]
    text = page(read(path))
    name, wanted, goal = GOALS[Kind.KILL]
    assert f"| {name} | 50 | 1,800 | 0 | 0 | 0 | 0 | {wanted:,} | {goal:,} |" in text
    assert "| it lost a message | `tests/x.py::test_y` |" in text
    assert "None yet." not in text


@pytest.mark.parametrize("change", [{"kind": "guess"}, {"date": "yesterday"}, {"unknown": 1}])
def test_a_line_that_is_no_row_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(orjson.dumps(asdict(ROW) | change))
    with pytest.raises((ValueError, TypeError)):
        read(path)


def test_every_fault_that_was_found_has_a_test_that_is_there() -> None:
    for row in read():
        if row.kind == Kind.FOUND.value:
            path, _, name = row.test.partition("::")
            assert name in _tests_of(path), f"{row.text}: there is no {row.test}"
