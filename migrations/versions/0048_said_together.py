"""Versions of results travel as what is each one's own, and what many of them say together, once.

Their types take the place of those that had every column of each version, `result_row` and `version_row`. These stay
for now: a daemon of the release before may be at work while a command of this one brings the database up to date, and
each message would fail that it decides.
"""

from __future__ import annotations

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

ROWS = (
    """create type lab.own_row as (
    alike xid, message xid, id uuid, result_id uuid, order_item_id uuid, natural_key bytea, location text,
    raw_value text, value text, number text, explanation text)""",
    """create type lab.alike_row as (
    place xid, flags text[], status text, held text[], comments text[], version int, fresh boolean, pending boolean,
    kind text, actor_kind text, actor_id uuid, analyzer_id uuid, test_id uuid, code text, code_path text, raw_unit text,
    raw_flags text, raw_status text, raw_reference text, test_code text, test_name text, loinc text, comparator text,
    unit text, low text, high text, reference text, note text, module text, reagent_lot text, calibrator_lot text,
    driver_revision text, map_revision int, reportable boolean, origin text, item_status text, method text)""",
    """create type lab.message_row as (
    place xid, message_id uuid, specimen_id uuid, patient_id uuid, order_id uuid, specimen_as_sent text,
    instrument_time text, instrument_at timestamptz, effective_at timestamptz)""",
)


def upgrade() -> None:
    for row in ROWS:
        op.execute(row)
