"""What is not in force, tried: a map's file, a driver, a rule set, looked at as when it would be put in force; and what
is in force, tried on what was released before it was.

A trial says of each link that it concerns what its messages would be decoded, mapped and decided by. It is for dry runs
(`flow.replay`). What it takes to know that (a map's rows among those in force) is written and taken back at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from interface.domain.catalogue import Catalogue
from interface.domain.map_files import Choices, FileFaults, FileRows, understood
from interface.domain.map_lint import Severity
from interface.domain.permissions import Permission
from interface.domain.rule_files import RuleFileError, parse_rule_set
from interface.domain.rule_set import RuleSet
from interface.domain.views import Actor
from interface.driver.manifest import Driver
from interface.errors import LaboraError
from interface.flow.actors import may
from interface.flow.context import LinkContext
from interface.flow.map_facts import Analyzers, findings_of, laboratory
from interface.flow.maps import MapError, Proposal, propose_put
from interface.flow.rules import RuleError, load, problems_of
from interface.settings import LinkRole
from interface.store import maps
from interface.store.catalogue import load_code_map, read_tests
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database


class TrialError(LaboraError):
    """What cannot be tried: every fault, each with its place."""

    slug = "trial"

    def __init__(self, faults: Collection[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True)
class Offered:
    """What somebody wants to be tried. `link`: on this link only; else on those that it would concern.

    `rules`: the text of a set, `rules_file` where it is from; or `rule_set`: name and number of a stored revision.
    """

    maps: FileRows | None = None
    driver: Driver | None = None
    rules: str = ""
    rules_file: str = ""
    rule_set: tuple[str, int] | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A link as it would be. `rules` None: what is in force; `rules_name`: what the set is called."""

    link: LinkContext
    catalogue: Catalogue
    rules: RuleSet | None = None
    rules_name: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """Of each link that it concerns, by id. `reads`: messages are read otherwise, and not only judged; `notes`: what
    lint warns of, and rows of a vendor's file that were left out; `in_force`: it is what decides now."""

    links: Mapping[UUID, Tried]
    reads: bool = False
    notes: tuple[str, ...] = ()
    in_force: bool = False


@dataclass(slots=True)
class _Candidate:
    """What was found of what is offered. `faults`: all of it."""

    proposal: Proposal | None = None
    rules: RuleSet | None = None
    rules_name: str = ""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _TakeBack(Exception):
    """Ends the transaction in which a map's rows were among those in force."""


async def prepare(
    database: Database, actor: Actor, offered: Offered, analyzers: Analyzers, links: Collection[LinkContext]
) -> Trial:
    """What would decide. `links`: as they are, those that the database knows. Raises TrialError with every fault."""
    if not may(actor, Permission.MESSAGE_REPLAY):
        raise TrialError([f"only a user with the permission {Permission.MESSAGE_REPLAY} may try what is not in force"])
    found: list[Trial] = []
    try:
        async with database.transaction(actor.organization_id) as connection:
            found.append(await _prepare(connection, actor, offered, analyzers, links))
            raise _TakeBack
    except _TakeBack:
        return found[0]


async def what_is_in_force(database: Database, actor: Actor, links: Collection[LinkContext]) -> Trial:
    """What decides on these links now."""
    of = actor.organization_id
    async with database.transaction(of) as connection:
        return Trial(
            {
                one.link_id: Tried(one, await read_catalogue(connection, of, one.driver.id, one.link_id))
                for one in links
                if one.settings.role is LinkRole.ANALYZER
            },
            in_force=True,
        )


async def _prepare(
    connection: Connection, actor: Actor, offered: Offered, analyzers: Analyzers, links: Collection[LinkContext]
) -> Trial:
    of = _Candidate()
    chosen = [one for one in links if one.settings.role is LinkRole.ANALYZER and offered.link in ("", one.name)]
    if not chosen:
        of.faults.append(f"there is no analyzer's link {offered.link!r}" if offered.link else "there is no such link")
    decoded = {one.link_id: _decoded_by(one, offered, of.faults) for one in chosen}
    if offered.driver is not None:
        await load_code_map(connection, actor.organization_id, offered.driver.id)
    if offered.maps is not None:
        await _map(connection, actor, offered, analyzers, of)
    await _rules(connection, offered, of)
    tried = {}
    for one in chosen:
        driver = decoded[one.link_id]
        mapped = of.proposal is not None and any(
            change.key.driver == driver.id and change.key.link in ("", one.name) for change in of.proposal.changes
        )
        ruled = of.rules is not None and (bool(offered.link) or one.settings.rules == of.rules.name)
        if driver is offered.driver or mapped or ruled:
            catalogue = await read_catalogue(connection, actor.organization_id, driver.id, one.link_id)
            rules = of.rules if ruled else None
            name = of.rules_name if ruled else ""
            tried[one.link_id] = Tried(replace(one, driver=driver), catalogue, rules, name)
    if not of.faults and not tried:
        of.faults.append("nothing of it concerns a link of this configuration; --link says on which it is tried")
    if of.faults:
        raise TrialError(of.faults)
    return Trial(tried, offered.driver is not None or of.proposal is not None, tuple(of.notes))


def _decoded_by(link: LinkContext, offered: Offered, faults: list[str]) -> Driver:
    """The driver that would read the link's messages."""
    driver = offered.driver
    if driver is None or not (offered.link or driver.id == link.driver.id):
        return link.driver
    if (driver.protocol, driver.link) != (link.driver.protocol, link.driver.link):
        faults.append(
            f"driver {driver.id}: speaks {driver.protocol} ({driver.link}); what came on link {link.name} is "
            f"{link.driver.protocol} ({link.driver.link})"
        )
    return driver


async def _map(connection: Connection, actor: Actor, offered: Offered, analyzers: Analyzers, of: _Candidate) -> None:
    """Put the rows of a map's file among those in force, until the transaction is taken back."""
    if offered.maps is None:
        return
    known = await laboratory(connection, analyzers)
    if offered.driver is not None:
        links = {**known.links, **({offered.link: offered.driver.id} if offered.link else {})}
        known = replace(known, drivers=known.drivers | {offered.driver.id}, links=links)
    driver = offered.driver.id if offered.driver is not None and not offered.link else ""
    basis = await maps.basis(connection)
    try:
        resolved = understood(offered.maps, known, Choices(driver, offered.link))
    except FileFaults as error:
        of.faults += map(str, error.faults)
        return
    try:
        of.proposal = proposal = await propose_put(connection, resolved.wanted, basis, "try", resolved.left_out)
    except MapError as error:
        of.faults.append(str(error))
        return
    of.notes += [f"left out: {one}" for one in resolved.left_out]
    later = [one.key for one in resolved.wanted if one.start is not None and one.start > basis.at]
    of.notes += [f"not tried: {key} is to hold later only" for key in later]
    for one in await findings_of(connection, analyzers, proposal):
        words = f"{one.severity} {one.check}: {one.row}: {one.text}"
        (of.faults if one.severity is Severity.ERROR else of.notes).append(words)
    there = await maps.known_links(connection)
    added = [row for row in proposal.added if row.key.link in ("", *there)]  # of a link without a row nothing came yet
    await maps.lock(connection, actor.organization_id)
    await maps.write_change(connection, actor, "import", "tried", "", proposal.ended, added)


async def _rules(connection: Connection, offered: Offered, of: _Candidate) -> None:
    """The rule set, and what is wrong with it in this laboratory."""
    place = offered.rules_file
    try:
        if offered.rule_set is not None:
            revision, of.rules, _ = await load(connection, *offered.rule_set)
            place, of.rules_name = revision.version, of.rules.version
        elif offered.rules:
            of.rules, of.rules_name = parse_rule_set(offered.rules), place
    except RuleFileError as error:
        of.faults += [f"{place}: {problem}" for problem in error.problems]
    except RuleError as error:
        of.faults.append(str(error))
    if of.rules is not None:
        known = {test.code: test for test in await read_tests(connection)}
        of.faults += [f"{place}: {problem}" for problem in problems_of(of.rules, known)]
