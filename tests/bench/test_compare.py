"""What is made of the yardstick's file: ratios of medians, noted by name; a bad answer is never as wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.compare import RATIOS, judged
from tests.bench.record import FILE, TARGETS


def _line(case: str, target: str, per_s: float, bad: int = 0) -> str:
    one = {"latency_ms": {"p95": 2.0, "p99": 3.0}, "others": 0.01, "bad": bad}
    return json.dumps({"case": case, "target": target, "per_s": per_s, "rounds": [one, one, one]})


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FILE, str(tmp_path / "noted"))
    return tmp_path / "noted"


def test_a_ratio_is_to_the_ceiling_and_for_sessions_to_a_frame_of_it(noted: Path) -> None:
    lines = [_line("mllp-16", "limit-pg-group", 2900), _line("mllp-16", "labora-mllp", 1740)]
    assert judged([*lines, _line("astm-16", "labora-astm", 80)])
    assert not judged([*lines, _line("astm-16", "labora-astm", 79)])
    assert judged(lines) and not judged([lines[0], _line("mllp-16", "labora-mllp", 1740, bad=1)])
    first = [json.loads(line) for line in noted.read_text().splitlines()[:2]]
    assert {row["name"]: row["value"] for row in first} == {"P1-ack": 0.6, "P5-16": 0.8}


def test_the_search_is_held_to_its_latency_too(noted: Path) -> None:
    assert judged([_line("http-search-16", "limit-http-search", 100), _line("http-search-16", "labora-search", 35)])
    assert [json.loads(line)["name"] for line in noted.read_text().splitlines()] == ["P8", "P8-p95", "P8-p99"]


def test_every_ratio_is_of_a_known_target() -> None:
    assert {one.name for one in RATIOS} <= set(TARGETS)
