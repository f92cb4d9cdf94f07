"""What deciding needs beyond a catalogue: intervals by hour, pregnancy and method, runs, what follows a result."""

from __future__ import annotations

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
