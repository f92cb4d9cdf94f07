"""What each acknowledgement waits for: fewer checks of what is certain, and room to note a reply in place."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A message and its key refer to a link of the same organization, a frame's policy lets in no other than the
    # session's: that the organization exists was looked up three times a message to no end.
    for table in ("message", "message_key", "frame"):
        op.execute(f"alter table lab.{table} drop constraint {table}_organization_id_fkey")
    # Reply and decision change no index's column: with room on its page the row is changed there, and no index is.
    op.execute("alter table lab.message set (fillfactor = 60)")
