"""Rules for Prometheus and the dashboard for Grafana speak of metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from interface import telemetry
from interface.cli import COMMANDS

FOLDER = Path(__file__).parents[1] / "docs" / "monitoring"
RULES = (FOLDER / "prometheus-rules.yml").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
_USE = re.compile(r"(labora_[a-z_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_OF_THE_SCRAPE = {"instance", "job", "le"}


def known() -> dict[str, set[str]]:
    """The labels of every series there can be."""
    found: dict[str, set[str]] = {name: set(labels) for name, _, labels in telemetry.GAUGES.values()}
    for collector in set(telemetry.REGISTRY._collector_to_names):
        if isinstance(collector, telemetry._Tally):
            found[f"{collector._name}_total"] = set(collector._labels)
            continue
        names = getattr(collector, "_labelnames", None)
        for family in collector.collect():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
            for end in ends:
                found[family.name + end] = set(names or ())
    return found


def uses() -> list[tuple[str, set[str]]]:
    texts = re.findall(r"expr: (.*)", RULES)
    texts += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [
        (name, set(_LABEL.findall(labels)) - _OF_THE_SCRAPE) for text in texts for name, labels in _USE.findall(text)
    ]


def test_there_are_rules_and_panels() -> None:
    assert len(uses()) > 30


@pytest.mark.parametrize(("name", "labels"), [(name, sorted(labels)) for name, labels in uses()])
def test_a_metric_is_one_that_the_daemon_tells(name: str, labels: list[str]) -> None:
    there = known()
    assert name in there, name
    assert set(labels) <= there[name], (labels, there[name])


def test_every_rule_says_what_to_run() -> None:
    commands = re.findall(r"command: labora (\S+)", RULES)
    assert RULES.count("- alert:") == RULES.count("summary:") == RULES.count("command:")
    assert set(commands) <= set(COMMANDS)


def test_what_alarms_at_the_first_is_told_as_zero_before_it() -> None:
    """`increase()` of a series that begins with 1 is 0: nobody would hear of the first."""
    telemetry.expect("monitoring-test")
    told = telemetry.metrics_page()[0].decode()
    first = re.findall(r"increase\((\w+)\{(\w+)=~?\"([^\"]*)\"\}\[\w+\]\)\)? > 0", RULES)
    assert len(first) >= 2
    for name, label, wanted in first:
        of_the_link = [line for line in told.splitlines() if line.startswith(name) and 'link="monitoring-test"' in line]
        at = {found[1]: line.split()[1] for line in of_the_link if (found := re.search(rf'{label}="([^"]*)"', line))}
        values = [value for value in at if re.fullmatch(wanted, value)]
        assert values and all(float(at[value]) == 0.0 for value in values), (name, wanted, of_the_link)


def test_a_laboratory_without_any_backup_is_told_of() -> None:
    """A time that is not there is never too long ago."""
    assert re.search(r"expr: up\{job=\"labora\"\} == 1 unless on ?\(instance\) labora_backup_timestamp_seconds", RULES)


def test_panels_do_not_lie_upon_one_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
                assert x < 24
