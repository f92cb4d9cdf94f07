"""The roster file: who is told of alerts, when they work, who is next; which wards are told of their orders.

A file of its own, because it changes every week and the configuration does not. A problem's path begins with `roster`:
`roster.shift[1].people[0]` is in its second `[[shift]]`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from interface.config.alerts import read_working_hours
from interface.config.table import Table, hint
from interface.domain.alerts import AlertKind, Severity
from interface.domain.hours import Calendar, read_hours
from interface.domain.roster import Contact, NoticeKind, Person, Roster, Scope, Shift, Step, Wish
from interface.errors import ConfigError, ConfigProblem
from interface.settings import AlertSettings, ChannelType

_MAIL = re.compile(r"[^\s<>@,;\"]{1,64}@[A-Za-z0-9.-]{1,190}")
_PHONE = re.compile(r"\+?[0-9][0-9 ()/.-]{2,30}")
_MINUTE_S = 60.0


def load_roster(alerts: AlertSettings) -> Roster:
    """Read the roster that the settings name; without one nobody is told. Raises ConfigError with every problem."""
    problems: list[ConfigProblem] = []
    roster = read_roster(alerts, problems)
    if problems:
        raise ConfigError(problems)
    return roster


def read_roster(alerts: AlertSettings, problems: list[ConfigProblem]) -> Roster:
    """The same, with problems added to a list."""
    zone = ZoneInfo(alerts.timezone)
    if alerts.roster is None:
        if alerts.channels:
            text = "is missing: there are channels, and nobody is named to be told by them"
            problems.append(ConfigProblem("alerts.roster", text))
        return Roster(Calendar(zone))
    document = _document(alerts.roster, problems)
    if document is None:
        return Roster(Calendar(zone))
    return _roster(Table(document, "roster", problems), alerts, zone)


def _document(path: Path, problems: list[ConfigProblem]) -> dict[str, object] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(ConfigProblem("alerts.roster", f"{path} cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        problems.append(ConfigProblem("alerts.roster", f"{path} is not UTF-8 at byte {error.start}"))
    except tomllib.TOMLDecodeError as error:
        problems.append(ConfigProblem("roster", f"{path} is not TOML: {error}"))
    return None


def _roster(root: Table, alerts: AlertSettings, zone: ZoneInfo) -> Roster:
    people: dict[str, Person] = {}
    for index, table in enumerate(root.tables("person")):
        person = _person(table, alerts)
        if person.id in people:
            root.problem(f"person[{index}].id", f'"{person.id}" is the id of another person')
        elif person.id:
            people[person.id] = person
    names = sorted(people)
    roster = Roster(
        Calendar(zone, _holidays(root)),
        people,
        tuple(_shift(table, names) for table in root.tables("shift")),
        tuple(_step(table, names) for table in root.tables("escalation")),
        tuple(_wish(table, alerts) for table in root.tables("notice")),
    )
    if alerts.channels and not (roster.shifts or roster.steps):
        root.problem("shift", "is missing: nobody is told of anything")
    root.close()
    return roster


def _holidays(root: Table) -> frozenset[date]:
    written, found = root.get("holidays"), set()
    if written is not None and not isinstance(written, list):
        root.problem("holidays", "must be a list of dates, such as [2026-12-25]")
    for index, day in enumerate(written if isinstance(written, list) else ()):
        try:
            found.add(date.fromisoformat(day) if isinstance(day, str) else day)
        except ValueError:
            root.problem(f"holidays[{index}]", f'"{day}" is not a date such as 2026-12-25')
            continue
        if not isinstance(day, str | date) or isinstance(day, datetime):
            root.problem(f"holidays[{index}]", "is not a date such as 2026-12-25")
    return frozenset(found)


def _person(table: Table, alerts: AlertSettings) -> Person:
    person = Person(table.name("id", required=True), _contacts(table, alerts), table.text("name"))
    table.close()
    return person


def _contacts(table: Table, alerts: AlertSettings) -> tuple[Contact, ...]:
    types = {channel.id: channel.type for channel in alerts.channels}
    found = []
    for one in table.tables("contact"):
        channel, to = one.text("channel", required=True), one.text("to")
        if channel and channel not in types:
            one.problem("channel", f'there is no channel "{channel}" in [alerts]{hint(channel, sorted(types))}')
        elif text := _address_problem(types.get(channel), to):
            one.problem("to", text)
        found.append(Contact(channel, to, one.choice("least", Severity.NOTICE)))
        one.close()
    if not found:
        table.problem("contact", "is missing: a channel, and the address there")
    return tuple(found)


def _address_problem(kind: ChannelType | None, to: str) -> str:
    if kind is ChannelType.SMTP and not _MAIL.fullmatch(to):
        return f'"{to}" is not an e-mail address'
    if kind is ChannelType.SMS and not _PHONE.fullmatch(to):
        return f'"{to}" is not a telephone number'
    if kind in (ChannelType.SLACK, ChannelType.TEAMS) and to:
        return f"is of no use with {kind}: its webhook posts where it was made for"
    return ""


def _shift(table: Table, names: Sequence[str]) -> Shift:
    hours = []
    for text in read_working_hours(table, "hours"):
        try:
            hours.append(read_hours(text))
        except ValueError:
            continue  # noted already
    shift = Shift(table.text("name"), _people(table, names), tuple(hours), _scope(table))
    table.close()
    return shift


def _step(table: Table, names: Sequence[str]) -> Step:
    after_min = table.whole("after_min", 15, 1, 7 * 24 * 60)
    step = Step(after_min * _MINUTE_S, _people(table, names), _scope(table))
    table.close()
    return step


def _people(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    found = table.texts("people")
    if not found:
        table.problem("people", "is missing: who is told")
    for index, name in enumerate(found):
        if name not in names:
            table.problem(f"people[{index}]", f'there is no person "{name}"{hint(name, list(names))}')
    return found


def _scope(table: Table) -> Scope:
    kinds = table.texts("kinds")
    for index, kind in enumerate(kinds):
        if kind not in list(AlertKind):
            known = f"is none of {', '.join(AlertKind)}{hint(kind, list(AlertKind))}"
            table.problem(f"kinds[{index}]", f'"{kind}" {known}')
    known_kinds = frozenset(AlertKind(kind) for kind in kinds if kind in list(AlertKind))
    return Scope(table.name("organization"), known_kinds, table.choice("least", Severity.NOTICE))


def _wish(table: Table, alerts: AlertSettings) -> Wish:
    kinds = table.texts("on")
    if not kinds:
        table.problem("on", f"is missing: {', '.join(NoticeKind)}")
    for index, kind in enumerate(kinds):
        if kind not in list(NoticeKind):
            table.problem(f"on[{index}]", f'"{kind}" is none of {", ".join(NoticeKind)}{hint(kind, list(NoticeKind))}')
    wish = Wish(
        _contacts(table, alerts),
        frozenset(NoticeKind(kind) for kind in kinds if kind in list(NoticeKind)),
        table.text("ward"),
        table.text("practitioner"),
        table.name("organization"),
    )
    if not wish.ward and not wish.practitioner:
        table.problem("ward", "is missing, and so is practitioner: of whose orders?")
    table.close()
    return wish
