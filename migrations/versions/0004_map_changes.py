"""Every change of a code map kept: who and why, and which rows it made and ended. No row of a map is overwritten."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("grant select, insert on lab.map_change to labora_app")
    op.execute("alter table lab.map_change enable row level security")
    op.execute("alter table lab.map_change force row level security")  # the owner too is held to the policies
    op.execute(f"create policy organization on lab.map_change using ({OWN}) with check ({OWN})")
    # A row of a map says what it says for ever; that a change ended it is all that is ever added to it.
    op.execute("revoke update on lab.code_map from labora_app")
    op.execute("grant update (ended_at, ended_by) on lab.code_map to labora_app")
