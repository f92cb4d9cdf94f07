"""The order book: which analyzer is to measure what, and what each was told and answered.

`dispatch` was there and unused. Analyzers that are told of their work without asking find it by `work_due`, into which
a trigger puts every item that begins to be measurable, whoever makes it so; where there is no such analyzer, nothing is
put there.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
APPENDED = {  # with the columns that are written later, once
    "sending": "",
    "dispatch_event": "",
    "route": "ended_at, ended_by, ended_by_name, end_reason",
    "analyzer_down": "ended_at, ended_by, ended_by_name, end_reason",
}
NEW = (*APPENDED, "link_state", "work_due")
MEASURABLE = "('received', 'in_progress')"
DUE = f"""
create function lab.item_due() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    if tg_op = 'UPDATE' then
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
            select id, new.id, new.organization_id from lab.analyzer
            where organization_id = new.organization_id and worklist on conflict do nothing;
    else
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
            select a.id, i.id, i.organization_id from added i join lab.analyzer a using (organization_id)
            where i.status in {MEASURABLE} and a.worklist on conflict do nothing;
    end if;
    return null;
end $$
"""  # noqa: S608 - words of ours


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for name, later in APPENDED.items():
        op.execute(f"grant select, insert on lab.{name} to labora_app")
        if later:
            op.execute(f"grant update ({later}) on lab.{name} to labora_app")
    op.execute("grant select, insert, update on lab.link_state to labora_app")
    op.execute("grant select, insert, update, delete on lab.work_due to labora_app")
    op.execute("grant usage on sequence lab.dispatch_work_id_seq to labora_app")
    for name in NEW:
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
    op.execute(DUE)
    op.execute(
        "create trigger item_due_added after insert on lab.order_item referencing new table as added"
        " for each statement execute function lab.item_due()"
    )
    op.execute(
        "create trigger item_due after update of status on lab.order_item for each row"
        f" when (new.status in {MEASURABLE} and old.status not in {MEASURABLE}) execute function lab.item_due()"
    )
