"""Rows that are written for every result, with less work.

What is written of many results travels as arrays of composite types, and explanations are text, which the database need
not read. The order item a result answers was read under its specimen's lock and is changed with it: the foreign key
locked each item once more to look whether it is there.

Which items wait for their measurement was said by an index over their status, so that no change of a status could stay
on its page and each wrote five indexes. Now their order says whether any of its items may wait: it is set again by a
trigger, whoever adds or reopens an item, and taken back by the transaction that sees the last of them come.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ROWS = (
    """create type lab.result_row as (
    id uuid, result_id uuid, version int, fresh boolean, pending boolean, natural_key bytea, status text, held text,
    analyzer_id uuid, specimen_id uuid, patient_id uuid, order_id uuid, order_item_id uuid, test_id uuid,
    reportable boolean, origin text, effective_at text, item_status text)""",
    """create type lab.version_row as (
    id uuid, result_id uuid, version int, status text, held text, kind text, message_id uuid, actor_kind text,
    actor_id uuid, location text, specimen_as_sent text, code text, code_path text, raw_value text, raw_unit text,
    raw_flags text, raw_status text, raw_reference text, instrument_time text, instrument_at text, comments text,
    test_code text, test_name text, loinc text, comparator text, number text, value text, unit text, low text,
    high text, reference text, flags text, note text, module text, reagent_lot text, calibrator_lot text)""",
    "create type lab.decision_row as (id uuid, explanation text, driver_revision text, map_revision int)",
)
WAITING = "('requested', 'collected', 'received', 'in_progress')"
# The order is locked before it is looked at: whoever takes `waiting` back holds that lock and has counted without the
# item that is being added, so that its word must be heard first and then be overruled.
ADDED = f"""
create function lab.item_added() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    perform from lab.lab_order where id in (select order_id from added where status in {WAITING}) order by id
        for no key update;
    update lab.lab_order set waiting = true
        where id in (select order_id from added where status in {WAITING}) and not waiting;
    return null;
end $$
"""  # noqa: S608 - words of ours
REOPENED = """
create function lab.item_reopened() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    perform from lab.lab_order where id = new.order_id for no key update;
    update lab.lab_order set waiting = true where id = new.order_id and not waiting;
    return null;
end $$
"""


def upgrade() -> None:
    for row in ROWS:
        op.execute(row)
    op.execute("alter table lab.decision alter column steps type text using steps::text")
    op.execute("alter table lab.result drop constraint result_order_item_id_fkey")
    op.execute("alter table lab.lab_order add column waiting boolean not null default true")
    for name in ("lab_order", "order_item"):
        op.execute(f"alter table lab.{name} no force row level security")
    op.execute(
        f"""update lab.lab_order o set waiting = false where not exists (
                select from lab.order_item i where i.order_id = o.id and i.status in {WAITING})"""  # noqa: S608
    )
    for name in ("lab_order", "order_item"):
        op.execute(f"alter table lab.{name} force row level security")
    op.execute("create index lab_order_waiting_idx on lab.lab_order (organization_id) where waiting")
    op.execute("drop index lab.order_item_open_idx")
    op.execute("alter table lab.order_item set (fillfactor = 50)")  # each item's next status beside it
    op.execute(ADDED)
    op.execute(REOPENED)
    op.execute(
        "create trigger item_added after insert on lab.order_item referencing new table as added"
        " for each statement execute function lab.item_added()"
    )
    op.execute(
        "create trigger item_reopened after update of status on lab.order_item for each row"
        f" when (new.status in {WAITING} and old.status not in {WAITING}) execute function lab.item_reopened()"
    )
    # Compared as bytes, not by the rules of a language: it is only ever asked for whole.
    op.execute("drop index lab.result_version_organization_id_specimen_as_sent_idx")
    op.execute(
        "create index result_version_organization_id_specimen_as_sent_idx on lab.result_version"
        " (organization_id, specimen_as_sent text_pattern_ops)"
    )
