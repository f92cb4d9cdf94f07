"""Look-back: the patients' results that were released since the last acceptable control, as lists for a person.

A list begins when a control fails and is bounded when one is acceptable again. Which results are in it is asked of the
results themselves, by when they were measured; what it has it keeps, and each is decided by a person.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from interface.domain.qc import Stream
from interface.store.db import Connection
from interface.store.ids import uuid7


async def begin(
    connection: Connection, organization_id: UUID, stream: Stream, qc_result_id: UUID | None, reagent_lot: str,
    since: datetime | None, until: datetime | None, reason: str = "",
) -> None:  # fmt: skip
    """The list of a failure, by the point that failed first; where there is one, what it covers is what it is now."""
    done = await connection.execute(
        """update lab.qc_lookback set from_at = $5, to_at = coalesce($6, now())
           where analyzer_id = $1 and test_id = $2 and module = $3 and qc_result_id is not distinct from $4
           and (qc_result_id is not null or state = 'open')""",
        stream.analyzer_id, stream.test_id, stream.module, qc_result_id, since, until,
    )  # fmt: skip
    if done.endswith(" 0"):
        await connection.execute(
            """insert into lab.qc_lookback (id, organization_id, analyzer_id, module, test_id, qc_result_id,
                   reagent_lot, from_at, to_at, state, reason)
               values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, now()), 'open', $10)""",
            uuid7(), organization_id, stream.analyzer_id, stream.module, stream.test_id, qc_result_id, reagent_lot,
            since, until, reason,
        )  # fmt: skip


async def bound(connection: Connection, qc_result_id: UUID, until: datetime) -> None:
    """A failure was made good: what was measured from then on is not looked at."""
    await connection.execute(
        "update lab.qc_lookback set to_at = $2 where qc_result_id = $1 and to_at <> $2", qc_result_id, until
    )


async def bound_alarm(connection: Connection, stream: Stream, until: datetime) -> None:
    """The same of an alarm that the patients' own results gave."""
    await connection.execute(
        """update lab.qc_lookback set to_at = $4
           where analyzer_id = $1 and test_id = $2 and module = $3 and qc_result_id is null and state = 'open'""",
        stream.analyzer_id, stream.test_id, stream.module, until,
    )  # fmt: skip
