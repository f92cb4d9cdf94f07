"""The page of figures says what was measured, and what was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.record import FILE, TARGETS, note
from tests.bench.whole import DATA, PAGE, enter, others, page

ABOUT = {"commit": "abc", "at": "2026-01-02 03:04 UTC", "machine": "2 x a processor", "python": "3.11"}


def test_a_figure_is_written_down_and_judged_by_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record"
    monkeypatch.setenv(FILE, str(file))
    assert [note("P7", 0.5, "3,000/s"), note("P7", 0.49), note("ready", 1.5), note("ready", 1.51)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert json.loads(file.read_text().splitlines()[0]) == {"name": "P7", "value": 0.5, "how": "3,000/s"}


def test_the_page_has_every_target_and_hides_no_miss() -> None:
    figures = [{"name": "P7", "value": 0.42, "how": "2,692/s"}, {"name": "P2", "value": 0.95, "how": ""}]
    lines = page({"about": ABOUT, "figures": figures, "failed": ["memory"]}).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert set(TARGETS) <= set(rows)
    assert "0.42" in rows["P7"] and "**no**" in rows["P7"] and "stretch" in rows["P2"]
    assert "not measured" in rows["P8"] and "yes" not in rows["P8"]
    assert lines[-1] == "Parts that ended otherwise than with a table: memory."


def test_what_was_run_by_itself_stands_beside_a_full_run_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "found"
    file.write_text('{"name": "P13-growth", "value": 3.0, "how": "800,000 messages"}\n')
    full: dict[str, Any] = {"about": ABOUT, "figures": [{"name": "P7", "value": 0.6, "how": ""}], "failed": []}
    data = enter(full, file)
    rows = {line.split(" | ")[0].strip("| "): line for line in page(data).splitlines() if line.startswith("| ")}
    assert "| yes | 800,000 messages; by itself, `" in rows["P13-growth"] and "by itself" not in rows["P7"]
    again = {"about": ABOUT, "figures": [{"name": "P13-growth", "value": 6.0, "how": ""}], "failed": []}
    assert "**no**" in page(again | {"entered": data["entered"]})


def test_of_what_two_parts_measure_the_comparison_counts() -> None:
    figures = [{"name": "P1-ack", "value": 0.55, "how": "compared"}, {"name": "P1-ack", "value": 0.66, "how": "again"}]
    assert "compared" in page({"about": ABOUT, "figures": figures, "failed": []})


def test_the_last_run_on_each_other_kind_of_processor_stays() -> None:
    def of(machine: str, value: float) -> dict[str, Any]:
        figures = [{"name": "P7", "value": value, "how": ""}]
        return {"about": ABOUT | {"machine": f"2 x {machine}, 24 GB"}, "figures": figures, "failed": [], "entered": {}}

    first = of("one", 0.61) | {"others": others(of("one", 0.61), {})}
    second = of("other", 0.62) | {"others": others(of("other", 0.62), first)}
    third = of("one", 0.63) | {"others": others(of("one", 0.63), second)}
    assert ("0.61" in page(second), "0.62" in page(second)) == (True, True)
    assert [value in page(third) for value in ("0.61", "0.62", "0.63")] == [False, True, True]


def test_every_target_has_one_bound() -> None:
    for name, target in TARGETS.items():
        assert (target.least is None) != (target.most is None), name
        assert target.stretch is None or target.met(target.stretch), name


@pytest.mark.skipif(not DATA.exists(), reason="no full run is kept")
def test_the_page_is_what_the_last_full_run_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(DATA.read_text(encoding="utf-8")))
