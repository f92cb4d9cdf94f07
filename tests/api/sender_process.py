"""Only sends what subscriptions ask for, to be killed: `python -m tests.api.sender_process URL ORGANIZATION HOOK`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from interface.api.told import subscription_sender
from interface.flow.feed import Feed
from interface.settings import ApiSettings, Settings
from interface.store.audit import AuditWriter
from interface.store.db import Database


async def main(url: str, organization: str, hook: str) -> None:
    database = await Database.connect(url)
    audit, feed = AuditWriter(database), Feed(database)
    audit.start()
    sender = subscription_sender(Settings(Path("unused"), api=ApiSettings(hooks=(hook,))), database, audit, feed)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed.run(lambda: [UUID(organization)]))
        group.create_task(sender.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
