"""Patients' results follow what was said of their controls, whoever said it and whatever ended before they had.

Who judges a control, or documents an action, sweeps at once; this finds what they left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog

from interface.errors import StoreError
from interface.flow.qc_sweep import sweep
from interface.store.db import Database

WATCH_S = 5.0

log = structlog.get_logger(__name__)


async def watch_quality_control(database: Database, organization_ids: Callable[[], Iterable[UUID]]) -> None:
    """Sweep until cancelled."""
    while True:
        for organization_id in organization_ids():
            try:
                done = await sweep(database, organization_id)
            except StoreError as error:
                log.warning("quality control not followed", action="qc.sweep", error=error.slug)
            except Exception as error:  # a fault of ours with one laboratory's results must not end it for the others
                log.error("quality control not followed", action="qc.sweep", exc_info=error)
            else:
                if done.held or done.freed or done.listed:
                    log.info("results followed their controls", action="qc.sweep", held=done.held, freed=done.freed,
                             released=done.released, listed=done.listed)  # fmt: skip
        await asyncio.sleep(WATCH_S)
