"""What each acknowledgement waits for: a message's key is written with its message, which refers to the same link.

The key is the organization's own, so that nobody can take the keys of another's link.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.message_key drop constraint message_key_link_id_fkey")
    op.execute("alter table lab.message_key drop constraint message_key_pkey")
    op.execute(
        "alter table lab.message_key add constraint message_key_pkey primary key (organization_id, link_id, digest)"
    )
