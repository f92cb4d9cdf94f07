"""Which messages are answered by an application reply, and by what: each role has a closed list (DESIGN §4)."""

from __future__ import annotations

from interface.driver.decode_orders import ADT
from interface.driver.encode_orders import REPLIES
from interface.flow import hospital, law, queries
from interface.flow.requests import Handlers
from interface.settings import LinkRole

HANDLERS: Handlers = {
    LinkRole.ANALYZER: {
        "QBP^Q11": lambda link: law.handler(link) or queries.handler(link),
        "QBP": queries.handler,
        "QRY": queries.handler,
        "ORM": queries.handler,
        "ACK": queries.handler_of_acknowledgements,
    },
    LinkRole.HOSPITAL: {
        **{kind: lambda _: hospital.orders for kind in REPLIES},
        **{f"ADT^{event}": lambda _: hospital.patients for event in ADT},
    },
}
