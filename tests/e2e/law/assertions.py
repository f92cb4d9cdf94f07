"""The assertions of the LAW profile, as the IHE Gazelle assertion manager publishes them (scope LAW, 60 assertions, of
the PaLM supplement LAW 1.5), in words of ours: those that its pages were found to show, and which of them bind whom.

What is said here of an assertion is printed in docs/ihe-law.md beside the test that shows it (see `statement`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Actor(StrEnum):
    MANAGER = "Analyzer Manager"
    ANALYZER = "Analyzer"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Assertion:
    """`without`: why no test shows it; "" where one must."""

    id: str
    actor: Actor
    text: str
    without: str = ""


_M, _A, _B = Actor.MANAGER, Actor.ANALYZER, Actor.BOTH

ASSERTIONS = (
    Assertion("LAB27-001", _A, "The Analyzer sends a query, QBP^Q11^QBP_Q11, for each specimen that it recognizes."),
    Assertion("LAB27-002", _M, "The query is replied to with RSP^K11^RSP_K11, which acknowledges it."),
    Assertion("LAB27-003", _M, "Then a LAB-28 with the work for the specimen is sent."),
    Assertion("LAB27-004", _M, "No work for the specimen is a negative query response: LAB-28 with ORC-1 DC."),
    Assertion("LAB27-005", _A, "Option Query All: QPD-1 is WOS_ALL, only QPD-1 and QPD-2 are filled."),
    Assertion("LAB27-006", _A, "Option Query by Rack: QPD-4 and QPD-5 name the rack and the position in it."),
    Assertion("LAB27-007", _A, "Option Query by Tray: QPD-6 and QPD-7 name the tray and the position in it."),
    Assertion("LAB27-008", _A, "Option Query by Isolate: the query names an isolate within its primary specimen."),
    Assertion("LAB28-001", _M, "A negative query response has the segments MSH, SPM, SAC and ORC and no others."),
    Assertion("LAB28-002", _M, "Work is sent as OML^O33^OML_O33."),
    Assertion("LAB28-003", _A, "The Analyzer answers LAB-28 with ORL^O34^ORL_O42."),
    Assertion("LAB28-004", _A, "To NW it answers for each step that it is accepted, or that it cannot be."),
    Assertion("LAB28-005", _A, "To CA it answers for each step that it is cancelled, or that it cannot be."),
    Assertion("LAB28-006", _A, "A step that is sent again, or whose id is used again, is refused."),
    Assertion("LAB28-007", _M, "The answer to a query for one specimen is about that specimen alone."),
    Assertion("LAB28-008", _A, "To a negative response for a specimen that it does not know it answers AR with ERR."),
    Assertion("LAB28-009", _A, "To a negative query response it answers with MSH and MSA alone."),
    Assertion("LAB29-001", _A, "Results are told by OUL^R22^OUL_R22."),
    Assertion("LAB29-002", _M, "They are accepted and registered, and answered with ACK^R22^ACK."),
    Assertion("LAB29-003", _M, "Unsolicited observations, whose OBR-2 is the null value, are accepted."),
    Assertion("LAW-001", _M, "When one Analyzer has completed a step, the redundant ones on others are cancelled."),
    Assertion("LAW-002", _A, "The Analyzer tells by ORL^O34^ORL_O42 whether it accepts or rejects a step."),
    Assertion("LAW-004", _A, "An Analyzer that cannot cancel a step says so."),
    Assertion("LAW-005", _A, "A step that is entered at the Analyzer has the null value for its id."),
    Assertion("LAW-006", _M, "Results of one step are taken over a period of time, and several at once."),
    Assertion("LAW-007", _A, "A reflex is a child of the original step, and its id is the null value."),
    Assertion("LAW-008", _M, "Results that are transmitted again are not rejected."),
    Assertion("LAW-014", _A, "Every Analyzer implements LAB-29.", "it binds the Analyzer's maker alone"),
    Assertion(
        "LAW-037", _M, "Option Pooling outside of the Analyzer: pools are sent as table W.1.3.17-1 says.",
        "pooling is not supported: the table was not to be had, and the laboratory has no pools",
    ),
)  # fmt: skip
UNSEEN = "LAW-003, and those from LAW-009 on but LAW-014 and LAW-037,"
