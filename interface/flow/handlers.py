"""Which messages are answered by an application reply, and by what: each role has a closed list (DESIGN §4)."""

from __future__ import annotations

from interface.driver.decode_orders import ADT
from interface.driver.encode_orders import REPLIES
from interface.flow import law, queries
from interface.flow.context import LinkContext
from interface.flow.requests import Handler, Handlers
from interface.settings import LinkRole


def _orders(link: LinkContext) -> Handler:
    """What a hospital orders is imported when the first comes, or when the links are open: analyzers need none of it
    to be acknowledged."""
    from interface.flow import hospital

    return hospital.orders


def _patients(link: LinkContext) -> Handler:
    from interface.flow import hospital

    return hospital.patients


HANDLERS: Handlers = {
    LinkRole.ANALYZER: {
        "QBP^Q11": lambda link: law.handler(link) or queries.handler(link),
        "QBP": queries.handler,
        "QRY": queries.handler,
        "ORM": queries.handler,
        "ACK": law.handler_of_acknowledgements,
        "ORL": law.handler_of_answers,
    },
    LinkRole.HOSPITAL: {
        **{kind: _orders for kind in REPLIES},
        **{f"ADT^{event}": _patients for event in ADT},
    },
}
