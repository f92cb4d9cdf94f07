"""Quality control: lots and their targets, points, the state of each stream, what was done, what is looked back at."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
APPENDED = {  # with the columns that are written later, once
    "qc_point": "excluded_at, excluded_by, excluded_by_name, exclude_reason",
    "qc_problem": "ended_at, ended_by, ended_by_name, end_reason",
    "qc_target": "ended_at, ended_by, ended_by_name, end_reason",
    "analyzer_lot": "ended_at, ended_by, ended_by_name, end_reason",
    "qc_event": "",
}
CHANGED = ("qc_plan", "qc_stream", "qc_lookback", "qc_lookback_item", "qc_peer")
NEW = ("qc_point", "qc_problem", "analyzer_lot", "qc_event", *CHANGED)


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("revoke update on lab.qc_target from labora_app")
    for name, later in APPENDED.items():
        op.execute(f"grant select, insert on lab.{name} to labora_app")
        if later:
            op.execute(f"grant update ({later}) on lab.{name} to labora_app")
    for name in CHANGED:
        op.execute(f"grant select, insert, update on lab.{name} to labora_app")
    for name in NEW:
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
