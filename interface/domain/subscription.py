"""What is true of every subscription: its states, how long a failure is waited out, what may be asked for."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

MOST_ATTEMPTS: Final = 20  # at one message, over ten hours; then a person must look
MOST_REFUSALS: Final = 3  # of one message for what it says; then it is a letter, and the next is sent
LONGEST_WAIT_S: Final = 3600.0
MOST_OF_A_CLIENT: Final = 50
SWITCHED_OFF: Final = "switched off by "  # begins the error of one that somebody wants off
JSON: Final = "application/fhir+json"
PAYLOADS: Final = ("", JSON)
MOST_HEADERS, MOST_HEADER_CHARACTERS = 10, 4000
# RFC 9110 5.1, 5.5; and none that would say how the message is framed, or whose it is.
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[!-~]([ \t!-~]*[!-~])?)", re.ASCII)
_NOT_THEIRS = re.compile(
    r"host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|accept-encoding|cookie",
    re.ASCII | re.IGNORECASE,
)


class Status(StrEnum):
    """As FHIR R4 has them; `requested` is not kept, for what is taken is active at once."""

    ACTIVE = "active"
    ERROR = "error"  # the last attempt failed; it is tried again, in order
    OFF = "off"


def wait_s(attempts: int, asked_s: float = 0.0) -> float:
    """How long to wait after so many failures: 2 s, 4 s, … to an hour, or what the endpoint asked for."""
    return min(max(2.0 ** min(attempts, 16), asked_s), LONGEST_WAIT_S)


def read_header(text: str) -> tuple[str, str]:
    """`Name: value`. ValueError, with a text that does not repeat it, for what may not be sent."""
    match = _HEADER.fullmatch(text) if len(text) <= MOST_HEADER_CHARACTERS else None
    if match is None:
        raise ValueError("is not of the form Name: value")
    if _NOT_THEIRS.fullmatch(match["name"]):
        raise ValueError("names a header that we write ourselves")
    return match["name"], match["value"]
