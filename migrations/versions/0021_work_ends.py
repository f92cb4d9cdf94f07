"""What is looked up when work of an analyzer ends: a link's messages without an answer, and the work of a message."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.dispatch add column barred boolean not null default false")
    op.execute(
        "create index dispatch_unconfirmed_idx on lab.dispatch (link_id)"
        " where state in ('queued', 'sent') and sending_id is not null"
    )
    op.execute(
        "create index dispatch_event_sending_id_idx on lab.dispatch_event (sending_id) where sending_id is not null"
    )
    op.execute("alter table lab.dispatch set (fillfactor = 70)")  # each one's next state beside it
