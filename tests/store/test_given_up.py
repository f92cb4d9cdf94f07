"""What the journal's writer gave up is not done behind its back."""

from __future__ import annotations

import pytest

from interface.errors import StoreError
from interface.store.db import Database
from interface.store.journal import Append
from tests.conftest import Organization
from tests.store.journals import Owner, hanging, in_flight, make_link, running, whole


async def test_what_was_given_up_is_not_done_after_what_was_said_later(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """A seal waits for a lock until nobody waits for it; done after the message was sealed as cut, it would make the
    resend a duplicate of that."""
    sealed = whole(await make_link(owner, organization), b"text")
    (row,) = sealed.messages
    async with running(database, organization, commit_wait_s=1.0) as journal:
        await journal.append(Append((row._replace(state="receiving", sealed_at=None, digest=None),), sealed.frames))
        async with hanging(owner, organization, sealed):
            with pytest.raises(StoreError):
                await journal.append(Append(sealed.messages))
            await journal.append(Append((row._replace(state="incomplete", digest=None, reason="lost"),)))
            assert not await in_flight(owner)
        assert await journal.append(whole(row.link_id, b"text")) == frozenset()


async def test_a_recovery_that_was_given_up_seals_nothing_later(
    database: Database, owner: Owner, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done when its links are served again, it would cut what is just coming over them."""
    monkeypatch.setattr("interface.store.journal_recover.COMMAND_TIMEOUT_S", 0.5)
    sealed = whole(await make_link(owner, organization), b"text")
    (row,) = sealed.messages
    async with running(database, organization) as journal:
        await journal.append(Append((row._replace(state="receiving", sealed_at=None, digest=None),), sealed.frames))
        async with owner.transaction():
            await owner.execute("select from lab.message where id = $1 for update", row.id)
            with pytest.raises(StoreError):
                await journal.recover((row.link_id,))
            await journal.append(whole(row.link_id, b"another", "2"))
            assert not await in_flight(owner)
        await journal.recover((row.link_id,))
        assert await owner.fetchval("select state from lab.message where id = $1", row.id) == "incomplete"
