"""Patient-based real-time quality control: plans, their validations and uses, values, alarms."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
APPENDED = {  # with the columns that are written later, once
    "pbrtqc_plan": "",
    "pbrtqc_validation": "",
    "pbrtqc_use": "ended_at, ended_by, ended_by_name, end_reason",
    "pbrtqc_value": "",
    "pbrtqc_event": "",
}
CHANGED = ("pbrtqc_state",)


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for name, later in APPENDED.items():
        op.execute(f"grant select, insert on lab.{name} to labora_app")
        if later:
            op.execute(f"grant update ({later}) on lab.{name} to labora_app")
    for name in CHANGED:
        op.execute(f"grant select, insert, update on lab.{name} to labora_app")
    for name in (*APPENDED, *CHANGED):
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
