"""An audit row's organization is asked for once, by the policy of its rows.

The foreign key asked again for each row, and locked the organization's row for it: two for each message that is
decided, by all who decide at the same moment. Messages, results and the feed do without it as well.
"""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.audit_event drop constraint audit_event_organization_id_fkey")
