"""What people read of alerts: a title that says the matter, a text that says what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from interface.domain.alert_words import MOST_LISTED, Line, compose, matter
from interface.domain.alerts import AlertKind, Phase, Severity, Subject

JAKARTA = ZoneInfo("Asia/Jakarta")
SINCE = datetime(2026, 11, 26, 7, 3, tzinfo=UTC)
DOWN = Line(
    Phase.ENTERED, "link_down", Subject("link", "hema-1"), Severity.WARNING, "no carrier", SINCE, id=UUID(int=7)
)


def over(line: Line) -> Line:
    return replace(line, phase=Phase.RECOVERED, note="", until=SINCE + timedelta(hours=1))


def of(kind: AlertKind, severity: Severity = Severity.WARNING, name: str = "xn-1") -> Line:
    return replace(DOWN, kind=kind.value, subject=Subject("analyzer", name), severity=severity)


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        ([DOWN], "Link hema-1 is down"),
        ([replace(DOWN, severity=Severity.URGENT)], "URGENT: Link hema-1 is down"),
        ([replace(DOWN, phase=Phase.ESCALATED)], "Nobody has seen to it: link hema-1 is down"),
        ([over(replace(DOWN, severity=Severity.URGENT))], "Over: link hema-1 is down"),
        ([over(DOWN), DOWN, of(AlertKind.LINK_DOWN)], "2 links are down; Over: link hema-1 is down"),
        ([of(AlertKind.BACKLOG), of(AlertKind.BACKLOG, name="age")], "Messages wait to be decided"),
        ([of(AlertKind.QC_DUE, Severity.NOTICE), of(AlertKind.DATABASE, Severity.URGENT)],
         "URGENT: The database does not serve, controls are due on xn-1"),
    ],
)  # fmt: skip
def test_a_title_says_what_is_the_matter(lines: list[Line], title: str) -> None:
    assert compose("main", lines, JAKARTA)[0] == f"[main] {title}"


def test_a_text_says_since_when_and_what_to_do() -> None:
    assert compose("main", [DOWN], JAKARTA)[1] == (
        "Link hema-1 is down.\nNo carrier\n\nSince 2026-11-26 14:03 WIB.\n\n"
        f"Look:      labora link status\nSee to it: labora alert ack {UUID(int=7)} --as YOU"
    )
    assert compose("main", [over(DOWN)], JAKARTA)[1] == (
        "Over: link hema-1 is down.\n\nFrom 2026-11-26 14:03 WIB to 2026-11-26 15:03 WIB."
    )


def test_a_long_list_is_cut_and_says_so() -> None:
    many = [of(AlertKind.LINK_DOWN, name=f"link-{number}") for number in range(MOST_LISTED + 3)]
    body = compose("main", many, JAKARTA)[1]
    assert (body.count("is down"), "* and 3 more: labora alert list" in body) == (MOST_LISTED, True)


@pytest.mark.parametrize("kind", list(AlertKind))
def test_every_kind_has_its_words(kind: AlertKind) -> None:
    assert matter(kind.value, Subject("thing", "name")) != f"{kind.value.replace('_', ' ')} name"
