"""What the workbench knows beside the maps' rows: links, drivers, the laboratory's tests, what the links sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from interface.domain.map_files import FileRow, Laboratory
from interface.domain.map_lint import LINT_DAYS, Finding, LintFacts, lint
from interface.domain.map_suggest import Hints, Suggestion, Unmapped, suggest
from interface.domain.mapping import Effective, MapRow, effective, lookup
from interface.driver import registry
from interface.driver.manifest import CodeEntry, CodeKind, Driver
from interface.errors import DriverError
from interface.flow.maps import Proposal
from interface.settings import LinkRole, LinkSettings, Settings
from interface.store import map_traffic, maps
from interface.store.catalogue import SITE, read_tests, shipped_aliases, shipped_code_map, shipped_specimen_words
from interface.store.db import Connection
from interface.store.map_traffic import SeenCode, UnmappedCode

_NO_RESULTS = frozenset({CodeKind.IMAGE, CodeKind.FLAG, CodeKind.DETAIL})  # what no test is ever made of


@dataclass(frozen=True, slots=True)
class Analyzers:
    """One organization's analyzer links in the configuration, and the ids of every driver there is."""

    links: Mapping[str, LinkSettings]
    drivers: frozenset[str]
    path: tuple[Path, ...] = ()

    def driver(self, driver_id: str) -> Driver | None:
        """The driver, read when it is asked for; None where there is none that can be used."""
        if driver_id not in self.drivers:
            return None
        try:
            return registry.load(driver_id, self.path)
        except DriverError:
            return None  # `labora driver list` says what is wrong with it

    def declared(self, driver_id: str) -> Mapping[str, CodeEntry]:
        """The codes of results that a driver says its analyzer sends; {} when it does not say."""
        driver = self.driver(driver_id)
        codes = driver.codes if driver else {}
        return {code: entry for code, entry in codes.items() if entry.kind not in _NO_RESULTS}

    def units(self, driver_id: str, sent: Iterable[str]) -> tuple[str, ...]:
        """Units as sent, those that the driver itself explains as it does."""
        driver = self.driver(driver_id)
        said = driver.units if driver else {}
        return tuple(said.get(unit, unit) for unit in sent)


def analyzers_of(settings: Settings, organization: str) -> Analyzers:
    """What the configuration and the driver folders say."""
    links = {
        link.id: link for link in settings.links if link.organization == organization and link.role is LinkRole.ANALYZER
    }
    return Analyzers(links, frozenset(registry.folders(settings.driver_path)), tuple(settings.driver_path))


async def known_links(connection: Connection, analyzers: Analyzers) -> dict[str, str]:
    """Links with their drivers: those of the configuration, and those that were there before."""
    configured = {name: link.driver for name, link in analyzers.links.items()}
    return await maps.known_links(connection) | configured


async def laboratory(connection: Connection, analyzers: Analyzers) -> Laboratory:
    """What the rows of a file are checked against."""
    links = await known_links(connection, analyzers)
    types = await connection.fetch("SELECT code, name FROM lab.specimen_type")
    words = {row["name"].casefold(): row["code"] for row in types} | {
        row["code"].casefold(): row["code"] for row in types
    }
    return Laboratory(
        tests={test.code: test for test in await read_tests(connection)},
        specimen_types=frozenset(row["code"] for row in types),
        specimen_words=dict(shipped_specimen_words()) | words,
        aliases=shipped_aliases(),
        drivers=analyzers.drivers | frozenset(links.values()),
        links=links,
    )


async def lint_facts(connection: Connection, analyzers: Analyzers, since: datetime, at: datetime) -> LintFacts:
    """What the rows of the maps are judged by; traffic from `since` on."""
    known = await laboratory(connection, analyzers)
    seen: defaultdict[str, set[str]] = defaultdict(set)
    units: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for one in await map_traffic.seen_codes(connection, since):
        seen[one.driver].add(one.code)
        units[one.driver, one.code].update(analyzers.units(one.driver, one.units))
    intervals = await connection.fetch(
        "SELECT DISTINCT t.code, i.method FROM lab.reference_interval i JOIN lab.test t ON t.id = i.test_id"
        " WHERE coalesce(i.valid_from <= now(), true) AND (i.valid_to IS NULL OR i.valid_to > now())"
    )
    asked = [(row["code"], row["method"]) for row in intervals if row["method"]]
    used = {link.driver for link in analyzers.links.values()}
    declared = {driver_id: frozenset(analyzers.declared(driver_id)) for driver_id in used}
    return LintFacts(
        at=at,
        tests=known.tests,
        with_interval=frozenset(row["code"] for row in intervals),
        methods_asked=_methods(asked),
        methods_said=_methods(await map_traffic.methods_said(connection, since)) if asked else {},
        links={name: link.driver for name, link in analyzers.links.items()},
        specimen_types=known.specimen_types,
        declared={driver_id: codes for driver_id, codes in declared.items() if codes},
        seen={driver: frozenset(codes) for driver, codes in seen.items()},
        units_seen={key: frozenset(found) for key, found in units.items()},
        aliases=known.aliases,
    )


def _methods(found: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    by_test: defaultdict[str, set[str]] = defaultdict(set)
    for code, method in found:
        by_test[code].add(method)
    return {code: frozenset(methods) for code, methods in by_test.items()}


async def lint_maps(
    connection: Connection, analyzers: Analyzers, rows: Iterable[MapRow], since: datetime, at: datetime
) -> list[Finding]:
    return lint(rows, await lint_facts(connection, analyzers, since, at))


async def findings_of(connection: Connection, analyzers: Analyzers, proposal: Proposal) -> list[Finding]:
    """What lint says of the codes that change, as they would be then."""
    keys = {change.key for change in proposal.changes}
    if not keys:
        return []
    gone = set(proposal.ended)
    rows = [row for row in await maps.read_rows(connection, {key.driver for key in keys}) if row.id not in gone]
    rows += [
        MapRow(UUID(int=number), new.key, new.span, new.origin == SITE, new.revision or 0)
        for number, new in enumerate(proposal.added)
    ]
    since = proposal.basis.at - timedelta(days=LINT_DAYS)
    found = await lint_maps(connection, analyzers, rows, since, proposal.basis.at)
    about = {str(key) for key in keys} | {key.driver for key in keys}
    about |= {f"test {new.span.target.test}" for new in proposal.added}
    return [one for one in found if one.row in about]


# ---- coverage --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeCoverage:
    """One code of a link. `state`: mapped, held (on purpose), unmapped, or partly (on some specimen types only)."""

    code: str
    name: str
    declared: bool
    results: int
    state: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkCoverage:
    """Of a link: how many of the codes it declares or has sent are mapped now."""

    link: str
    driver: str
    declared: int
    seen: int
    mapped: int
    unmapped: int
    held: int
    codes: tuple[CodeCoverage, ...] = field(default=())


async def coverage(
    connection: Connection, analyzers: Analyzers, since: datetime, at: datetime, link: str | None = None
) -> list[LinkCoverage]:
    """Every analyzer link's codes, declared by its driver or seen since, against what maps them now."""
    rows = await maps.read_rows(connection)
    seen: defaultdict[str, list[SeenCode]] = defaultdict(list)
    for one in await map_traffic.seen_codes(connection, since):
        seen[one.link].append(one)
    links = {name: found.driver for name, found in analyzers.links.items() if link in (None, name)}
    return [_covered(name, driver, rows, seen[name], analyzers, at) for name, driver in sorted(links.items())]


def _covered(
    name: str, driver: str, rows: Collection[MapRow], seen: list[SeenCode], analyzers: Analyzers, at: datetime
) -> LinkCoverage:
    declared = analyzers.declared(driver)
    sent = {one.code: one for one in seen if one.driver == driver}
    found = effective(rows, driver, name, at)
    types: defaultdict[str, set[str]] = defaultdict(set)
    for code, specimen_type in found:
        types[code].add(specimen_type)
    codes = []
    for code in sorted({*declared, *sent}):
        wanted = (sent[code].specimen_types if code in sent else None) or types[code] or {""}
        targets = [
            row.span.target.test if row else None for row in (lookup(found, code, one) for one in sorted(wanted))
        ]
        tests = tuple(dict.fromkeys(test for test in targets if test))
        results = sent[code].results if code in sent else 0
        vendor_s = declared[code].name if code in declared else ""
        codes.append(CodeCoverage(code, vendor_s, code in declared, results, _state(targets), tests))
    count = {state: sum(one.state == state for one in codes) for state in ("mapped", "unmapped", "held", "partly")}
    return LinkCoverage(
        name, driver, len(declared), len(sent), count["mapped"], count["unmapped"] + count["partly"], count["held"],
        tuple(codes),
    )  # fmt: skip


def _state(targets: list[str | None]) -> str:
    if all(targets):
        return "mapped"
    if not any(targets):
        return "held" if all(target == "" for target in targets) else "unmapped"
    return "partly"


# ---- what waits ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unmapped code, and what maps it by now: "" nothing does; a test: its results wait for a replay."""

    code: UnmappedCode
    now: str


async def waiting(connection: Connection, analyzers: Analyzers, since: datetime, at: datetime) -> list[Waiting]:
    """Codes that hold results, and codes of controls (`since`) that still have no test; the most frequent first."""
    rows = await maps.read_rows(connection)
    in_force: dict[str, Effective] = {}
    found = []
    controls = {(one.link, one.code): one for one in await map_traffic.unmapped_controls(connection, since)}
    for one in await map_traffic.unmapped_codes(connection):
        also = controls.pop((one.link, one.code), None)
        if also is not None:
            one = replace(one, controls=also.controls)
        found.append(one)
    for one in [*found, *controls.values()]:
        in_force.setdefault(one.link, effective(rows, one.driver, one.link, at))
    told = []
    for one in [*found, *controls.values()]:
        row = lookup(in_force[one.link], one.code, one.specimen_type)
        now = row.span.target.test if row else ""
        if one.results or not now:
            told.append(Waiting(one, now))
    return told


@dataclass(frozen=True, slots=True)
class Suggested:
    """Candidates for one unmapped code of one link."""

    code: UnmappedCode
    candidates: tuple[Suggestion, ...]


async def suggestions(
    connection: Connection, analyzers: Analyzers, livd: Iterable[FileRow], chosen: Iterable[UnmappedCode], most: int
) -> list[Suggested]:
    """Candidates for each of the codes, from names, units, LIVD files, other maps and open orders."""
    tests = await read_tests(connection)
    rows = await maps.read_rows(connection)
    hints = _hints(analyzers, rows, livd)
    ordered = await map_traffic.open_items(connection)
    found = []
    for one in chosen:
        declared = analyzers.declared(one.driver).get(one.code)
        names = (declared.name, *one.names) if declared and declared.name else one.names
        units = analyzers.units(one.driver, (*one.units, declared.unit if declared else ""))
        code = Unmapped(
            one.driver, one.code, one.specimen_type, names, units, one.kinds, one.specimens,
            ordered.get((one.link, one.code), {}),
        )  # fmt: skip
        found.append(Suggested(one, tuple(suggest(code, tests, hints, shipped_aliases(), most))))
    return found


def _hints(analyzers: Analyzers, rows: Iterable[MapRow], livd: Iterable[FileRow]) -> Hints:
    by_code: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for said in livd:
        if said.code and said.loinc:
            by_code[said.code].setdefault(said.loinc, f"{said.file}:{said.line}")
    elsewhere: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.span.target.test:
            elsewhere[row.key.code][row.span.target.test].add(row.key.driver)
    unverified = {}
    for driver_id in analyzers.drivers:
        shipped = shipped_code_map(driver_id)
        for one in shipped.codes if shipped else ():
            if one.verified:
                elsewhere[one.code][one.test].add(driver_id)
            else:
                unverified[driver_id, one.code] = (one.test, one.note or "no reason given")
    return Hints(
        livd=by_code,
        unverified=unverified,
        elsewhere={code: {test: frozenset(found) for test, found in of.items()} for code, of in elsewhere.items()},
        vendors={driver.id: driver.vendor for driver in map(analyzers.driver, analyzers.drivers) if driver},
    )
