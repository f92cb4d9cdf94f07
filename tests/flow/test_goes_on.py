"""What goes on beside the links goes on after an error of the database that nobody waits out: a page that is damaged, a
grant that a site took away. One look fails; the loop that ended by it would be missed by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from interface.api.told import tell
from interface.errors import StoreUnavailable
from interface.flow import (
    critical_watch,
    dispatch_watch,
    exporting,
    feed,
    link_watch,
    outgoing,
    subscription_sender,
    waking,
)
from interface.flow.dispatch_watch import LinkSeen
from interface.flow.feed import Feed
from interface.flow.link_watch import LinkUp, LinkWatch
from interface.ops import machine_watch
from interface.ops.machine_watch import MachineWatch
from interface.settings import Settings
from interface.store.audit import AuditWriter
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cluster import administer, owner_of
from tests.conftest import FOUNDED
from tests.flow.laboratory import laboratory, neighbour
from tests.hanging import broken
from tests.store.journals import until

Loop = Callable[[Database, UUID, Path], Coroutine[Any, Any, None]]


def told(database: Database, organization_id: UUID, folder: Path) -> Coroutine[Any, Any, None]:
    of = Feed(database)
    of.know(organization_id)
    return tell(Settings(folder), database, AuditWriter(database), of)


def order_book(database: Database, organization_id: UUID, _: Path) -> Coroutine[Any, Any, None]:
    link: Any = SimpleNamespace(
        organization_id=organization_id, link_id=uuid7(), settings=SimpleNamespace(down_after_s=0.0)
    )
    return dispatch_watch.watch_dispatches(database, lambda: [LinkSeen(link, True, None)])


LOOPS: dict[str, tuple[Loop, int]] = {  # with how many errors one look of all that is in it has
    "the feed of changes": (lambda database, of, _: Feed(database).run(lambda: [of]), 1),
    "subscriptions and exports": (told, 2),
    "links that are down": (lambda database, of, _: LinkWatch(database, lambda: [LinkUp(of, "h", True)]).run(), 1),
    "the machine": (lambda database, of, at: MachineWatch(lambda: Settings(at), database, lambda: [of]).run(), 1),
    "critical results": (lambda database, of, _: critical_watch.watch_criticals(database, lambda: [of]), 1),
    "the order book": (order_book, 1),
    "work for analyzers": (lambda database, _, __: outgoing.watch_work(database), 1),
}


@pytest.mark.parametrize("name", LOOPS)
async def test_one_error_that_nobody_waits_out_ends_nothing(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in (critical_watch, dispatch_watch, link_watch, machine_watch):
        monkeypatch.setattr(module, "WATCH_S", 0.01)
    for module in (exporting, subscription_sender):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    for module in (feed, outgoing):
        monkeypatch.setattr(module, "POLL_S", 0.01)
    make, errors = LOOPS[name]
    database = Database(founded_url)
    organization_id = await database.find_organization(FOUNDED)
    assert organization_id is not None
    waking.sleep(organization_id, uuid7(), ring := lambda: None)
    with capture_logs() as said:
        await administer(owner_of(founded_url), "revoke usage on schema lab from labora_app")
        loop = asyncio.create_task(make(database, organization_id, tmp_path))
        try:

            async def failed() -> bool:
                assert not loop.done(), loop.exception()
                return len({one["action"] for one in said if one["log_level"] == "error"}) >= errors

            await until(failed)
            await administer(owner_of(founded_url), "grant usage on schema lab to labora_app")
            assert not loop.done()
        finally:
            waking.leave(organization_id, ring)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            await database.close()


async def test_a_folder_of_exports_that_cannot_be_read_ends_nothing(database: Database, tmp_path: Path) -> None:
    """An hour's look for what is over was the one thing beside them that ended subscriptions too."""
    (folder := tmp_path / "exports").mkdir()
    with broken(folder), capture_logs() as said:
        loop = asyncio.create_task(told(database, uuid7(), tmp_path))
        try:

            async def failed() -> bool:
                assert not loop.done(), loop.exception()
                return "export.folder" in [one["action"] for one in said if one["log_level"] == "error"]

            await until(failed)
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


@pytest.mark.parametrize("table", ["link_state", "alert"])
async def test_what_is_wrong_in_one_laboratory_keeps_no_other_from_being_looked_at(
    founded_url: str, table: str
) -> None:
    """A page that the disk does not give: of those behind it no work went to another analyzer, and no link that was
    down was an alert, for as long as it lasted."""
    async with laboratory(founded_url) as lab, neighbour(lab) as other:
        await lab.owner.execute(
            f"""create function lab.damaged() returns trigger language plpgsql as $$ begin
                raise 'could not read block 7' using errcode = '58030'; end $$;
            create trigger damaged before insert on lab.{table} for each row
                when (new.organization_id = '{lab.organization_id}') execute function lab.damaged()"""
        )
        of = [lab.context, other.context]
        watch = LinkWatch(lab.database, lambda: [LinkUp(one.organization_id, one.name, False) for one in of])
        for _ in range(link_watch.START_LOOKS + 1):
            with suppress(StoreUnavailable):
                if table == "alert":
                    await watch.look()
                else:
                    seen = [LinkSeen(one, True, None) for one in of]
                    await dispatch_watch.look(lab.database, seen, datetime.now(UTC))
        found = await lab.owner.fetch(f"select organization_id from lab.{table}")  # noqa: S608 - a name of ours
        assert [row["organization_id"] for row in found] == [other.organization_id]
