"""What tells EMRs of changes beside their requests, put together of what is configured."""

from __future__ import annotations

import asyncio

from interface.api.changes import kinds_of
from interface.api.context import base_url_of, emr_of
from interface.api.fhir.export import exporter
from interface.api.fhir.reading import Reader
from interface.flow.feed import Feed
from interface.flow.hooks import Hooks
from interface.flow.subscription_sender import SubscriptionSender
from interface.settings import Settings
from interface.store.audit import AuditWriter
from interface.store.db import Database


async def tell(settings: Settings, database: Database, audit: AuditWriter, feed: Feed) -> None:
    """Send what subscriptions ask for and work on exports, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(subscription_sender(settings, database, audit, feed).run(), name="subscriptions")
        group.create_task(exporter(settings, database, feed).run(), name="exports")


def subscription_sender(settings: Settings, database: Database, audit: AuditWriter, feed: Feed) -> SubscriptionSender:
    """To be run by the caller, beside `feed` and `audit`."""
    api = settings.api
    hooks, audience = Hooks.of(api.hooks, api.hook_networks), emr_of(settings)
    reader = Reader(audience, base_url_of(settings))
    return SubscriptionSender(database, feed, hooks, reader, audit, kinds_of(audience))
