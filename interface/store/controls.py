"""Controls and calibrators as they were measured, as rows. What is made of them: `store.qc`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from interface.store.db import Connection
from interface.store.rows import rows_json


@dataclass(frozen=True, slots=True)
class ControlResult:
    """What an analyzer measured on something that is no patient's specimen."""

    id: UUID
    natural_key: bytes
    message_id: UUID | None  # None: a person's
    analyzer_id: UUID
    role: str
    kind: str
    measured_at: datetime  # the instrument's time where it is plausible, else the receipt
    specimen_as_sent: str = ""
    code: str = ""
    test_id: UUID | None = None
    number: Decimal | None = None
    value: str = ""
    raw_value: str = ""
    unit: str = ""
    raw_flags: str = ""
    instrument_time: str = ""
    instrument_at: datetime | None = None
    location: str = ""
    module: str = ""
    lot_as_sent: str = ""
    level_as_sent: str = ""
    reagent_lot: str = ""
    calibrator_lot: str = ""
    doubts: tuple[str, ...] = ()  # of the analyzer itself
    barcode: str = ""  # what its id would be as a specimen's; not stored
    doubt: str = ""  # why it makes no point whatever it is: `domain.qc_arrival.QcProblem`; not stored


_CONTROLS = """
INSERT INTO lab.qc_result (id, organization_id, natural_key, analyzer_id, message_id, role, specimen_as_sent, code,
    test_id, kind, number, value, raw_value, unit, raw_flags, instrument_time, instrument_at, location, module,
    lot_as_sent, level_as_sent, reagent_lot, calibrator_lot, doubts, measured_at)
SELECT id, $1, natural_key, analyzer_id, message_id, role, specimen_as_sent, code, test_id, kind, number, value,
    raw_value, unit, raw_flags, instrument_time, instrument_at, location, module, lot_as_sent, level_as_sent,
    reagent_lot, calibrator_lot, doubts, measured_at
FROM jsonb_to_recordset($2::text::jsonb) AS t(
    id uuid, natural_key bytea, message_id uuid, analyzer_id uuid, role text, kind text, specimen_as_sent text,
    code text, test_id uuid, number numeric, value text, raw_value text, unit text, raw_flags text,
    instrument_time text, instrument_at timestamptz, location text, module text, lot_as_sent text, level_as_sent text,
    reagent_lot text, calibrator_lot text, doubts text[], measured_at timestamptz)
ON CONFLICT (organization_id, natural_key) DO NOTHING
"""


async def write_controls(connection: Connection, organization_id: UUID, controls: Sequence[ControlResult]) -> None:
    """Keep controls and calibrators, before anything is decided that they have a say in. One that is there stays."""
    if controls:
        await connection.execute(_CONTROLS, organization_id, rows_json(controls))
