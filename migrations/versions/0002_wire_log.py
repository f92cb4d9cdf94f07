"""The wire log: everything on the wire that is no frame, and which frames were when."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("grant select, insert on lab.wire_log to labora_app")
    op.execute("alter table lab.wire_log enable row level security")
    op.execute("alter table lab.wire_log force row level security")  # the owner too is held to the policies
    op.execute(f"create policy organization on lab.wire_log using ({OWN}) with check ({OWN})")
