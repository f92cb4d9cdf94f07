"""Which messages are answered by an application reply, and by what: each role has a closed list (DESIGN §4)."""

from __future__ import annotations

from interface.flow.requests import Handlers
from interface.settings import LinkRole

HANDLERS: Handlers = {
    LinkRole.ANALYZER: {},
    LinkRole.HOSPITAL: {},
}
