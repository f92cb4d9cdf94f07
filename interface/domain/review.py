"""Reviewing results: which step is legal in which state, which reasons to hold a person may accept. Tables; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from interface.domain.model import RELEASED, HoldReason, ResultStatus
from interface.errors import LaboraError


class Refusal(StrEnum):
    """What kind of illegal step it is: the API makes an HTTP status of it."""

    NOT_FOUND = "not-found"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"  # it is another state than the person thought
    INVALID = "invalid"


class ReviewError(LaboraError):
    """A step that is not allowed, in one sentence."""

    slug = "review"

    def __init__(self, refusal: Refusal, text: str) -> None:
        self.refusal = refusal
        super().__init__(text)


class InputsWait(ReviewError):
    """It is calculated from what is not released. Of results that are decided together, those are decided first."""

    def __init__(self, tests: Collection[str]) -> None:
        is_not = (
            "which is not released: release that first"
            if len(tests) == 1
            else ("which are not released: release those first")
        )
        super().__init__(Refusal.CONFLICT, f"it is calculated from {' '.join(tests)}, {is_not}")


# ---- reasons to hold ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a person may release a result in spite of it, knowingly and with a comment; `words`: why, or what helps.

    Acceptable is what can be judged by looking: the value was measured, and it is known for whom and what. Where one of
    these is not known, or the run itself is in doubt, accepting would be guessing: mend the cause.
    """

    acceptable: bool
    words: str


_H = HoldReason
HOLDS: Mapping[HoldReason, Hold] = {
    _H.UNMAPPED_CODE: Hold(False, "map the code to a test and replay the message"),
    _H.UNKNOWN_UNIT: Hold(False, "name the unit in the map and replay the message, or correct the value"),
    _H.NO_SUCH_SPECIMEN: Hold(False, "order it on this barcode and replay the message"),
    _H.AMBIGUOUS_SPECIMEN: Hold(False, "close the other specimen of this barcode and replay the message"),
    _H.PATIENT_MISMATCH: Hold(False, "find out whose specimen it is; reject the result, or mend the order and replay"),
    _H.DRIVER_MISMATCH: Hold(False, "give the link the driver of its analyzer and replay the message"),
    _H.RUN_FAILED: Hold(False, "there is no value: measure again, or enter one"),
    _H.INCOMPLETE_TRANSMISSION: Hold(True, "the record itself came whole; what was cut off came after it"),
    _H.NOT_ORDERED: Hold(False, "order the test on this specimen and replay the message"),
    _H.NO_VALUE: Hold(False, "there is no value: measure again, or enter one"),
    _H.UNKNOWN_FLAG: Hold(True, "the person has read what the analyzer flagged"),
    _H.UNKNOWN_STATUS: Hold(False, "it may not be a result at all: add the status to the driver and replay"),
    _H.QUESTIONABLE: Hold(True, "the analyzer doubts it, the person does not"),
    _H.UNREADABLE_VALUE: Hold(False, "nobody knows what was measured: measure again, or enter the value"),
    # Only the flag is not known: the value stands, such as `<5` where the limit is 3. A person sees both.
    _H.AMBIGUOUS_INTERVAL: Hold(True, "the value is known, how it is to be flagged is not"),
    _H.CHANGED_AFTER_RELEASE: Hold(False, "accept or reject the change"),
    _H.NOT_PATIENT: Hold(False, "a control is never a patient's result"),
    # The specimen may be another patient's, or nobody's: no look at the value can tell.
    _H.CONTROL_LIKE_ID: Hold(False, "say in the driver or the link whose id it is, and replay the message"),
    _H.OUTSIDE_WINDOW: Hold(False, "make sure whose barcode it is now; order it again and replay the message"),
    # Numbers are used again: it may be another patient's. A clock that was wrong can be known, the value tells nothing.
    _H.BEFORE_SPECIMEN: Hold(True, "the person knows that it was this specimen: a clock, or a time told, is wrong"),
    _H.PATIENT_NAME: Hold(True, "the identifiers agree; the person has compared the names"),
    # A true change of the patient, or a mixed-up tube: the person has looked at both, and at the other tests.
    _H.DELTA: Hold(True, "the change is the patient's: the person has compared it with the results before"),
    _H.INTERFERENCE: Hold(True, "the interference does not matter for this test at this value, or the comment says it"),
    _H.SUPPRESSED: Hold(
        False, "the specimen spoils this test: reject the result and ask for another, or correct it by one"
    ),
    _H.MEASURING_RANGE: Hold(True, "it is reported as a limit, or as diluted"),
    # Rare and true at once: never to report it would fail the sickest. The comment says how it was confirmed.
    _H.IMPLAUSIBLE: Hold(True, "the person has excluded contamination and a mixed-up tube"),
    _H.INCONSISTENT: Hold(True, "the person knows why the tests disagree"),
    # What the controls say is not answered by looking at a patient's value.
    # Nor need anybody: it is judged anew when the controls speak for it, or measured again.
    _H.QC_FAILED: Hold(False, "run an acceptable control and document what was done: it is judged anew if it stands"),
    _H.QC_EXPIRED: Hold(False, "run an acceptable control: it is judged anew then"),
    _H.RULE: Hold(True, "the rule asks for a person, who has looked"),
    _H.RERUN: Hold(True, "the rerun has come, or cannot be done: the first run is reported after all"),
    _H.ALREADY_REPORTED: Hold(True, "this run is reported in place of the one that was"),
    _H.PERSON: Hold(True, "whoever looks at it next decides"),
    _H.SAID_ANEW: Hold(True, "the person has compared it with what was said before"),
}
# What is so of a result that is held for it. docs/reference/holds.md is made of this and of HOLDS.
WHEN: Mapping[HoldReason, str] = {
    _H.UNMAPPED_CODE: "no map says which test the analyzer's code is",
    _H.UNKNOWN_UNIT: "its unit is not known, or cannot be converted to the test's",
    _H.NO_SUCH_SPECIMEN: "no specimen has this barcode, or none was sent",
    _H.AMBIGUOUS_SPECIMEN: "several specimens have this barcode, or several order items wait for the test",
    _H.PATIENT_MISMATCH: "the patient's id, birth date or sex as sent is another than the order's",
    _H.DRIVER_MISMATCH: "the message is not of the analyzer that the link's driver is for",
    _H.RUN_FAILED: "the analyzer says that the run failed",
    _H.INCOMPLETE_TRANSMISSION: "the transmission was cut before its end",
    _H.NOT_ORDERED: "the specimen is known, and this test is not ordered on it",
    _H.NO_VALUE: "there is no value",
    _H.UNKNOWN_FLAG: "the analyzer's flag is not in the driver's table, or asks for a person",
    _H.UNKNOWN_STATUS: "the analyzer's status is not in the driver's table",
    _H.QUESTIONABLE: "the analyzer doubts the value, or calls it preliminary",
    _H.UNREADABLE_VALUE: "the value is not of the kind that the test has, or cannot be read",
    _H.AMBIGUOUS_INTERVAL: "which limits count cannot be said, or the value may be on either side of one",
    _H.CHANGED_AFTER_RELEASE: "it is a change beside a result that is released",
    _H.NOT_PATIENT: "it is a control's or calibrator's",
    _H.CONTROL_LIKE_ID: "it was sent as a patient's, with an id that looks like a control's",
    _H.OUTSIDE_WINDOW: "the barcode's specimen was received, or else made, longer ago than `specimen_window_days`",
    _H.BEFORE_SPECIMEN: "by the analyzer's clock, or its receipt, it was measured before the specimen was collected; "
    "or before it was made, while another carried the barcode",
    _H.PATIENT_NAME: "the name as sent is another than the order's, and the link's policy is to hold for that",
    _H.DELTA: "a `[[delta]]` check failed, or could not be made",
    _H.INTERFERENCE: "an index of the specimen interferes, or is asked for and not known",
    _H.SUPPRESSED: "an index interferes so much that the value is never reported",
    _H.MEASURING_RANGE: "it is, or may be, outside the measuring or reportable range; or its dilution is not known",
    _H.IMPLAUSIBLE: "no living patient has it: outside an absurd range; below zero, or of more than fifteen digits "
    "before the point, where no limit admits that",
    _H.INCONSISTENT: "it disagrees with another test of the specimen, or that cannot be said",
    _H.QC_FAILED: "quality control of its analyzer and test failed",
    _H.QC_EXPIRED: "no control has been run in time",
    _H.RULE: "a rule is not met, or could not be evaluated; or a linked test is held",
    _H.RERUN: "a rerun or dilution was asked for, and is awaited",
    _H.ALREADY_REPORTED: "another run of the same order item is released",
    _H.PERSON: "a person wants it to be looked at, or has rejected, retracted or corrected what was there before",
    _H.SAID_ANEW: "it was sent, entered or calculated anew, and nobody asked: it was critical before and has another "
    "value, or a person has said something of it; or it may be the result before a rerun, said once more",
}
ACCEPTABLE = frozenset(reason for reason, hold in HOLDS.items() if hold.acceptable)
# Whose cause is the value itself: they end when a person enters another. All others stand against whatever is entered.
OF_THE_VALUE = frozenset(
    {_H.UNKNOWN_UNIT, _H.RUN_FAILED, _H.NO_VALUE, _H.UNKNOWN_FLAG, _H.UNKNOWN_STATUS, _H.QUESTIONABLE,
     _H.UNREADABLE_VALUE, _H.AMBIGUOUS_INTERVAL, _H.DELTA, _H.INTERFERENCE, _H.SUPPRESSED, _H.MEASURING_RANGE,
     _H.IMPLAUSIBLE, _H.INCONSISTENT, _H.RULE, _H.RERUN, _H.PERSON, _H.SAID_ANEW}
)  # fmt: skip


def words(reasons: Collection[HoldReason]) -> str:
    return ", ".join(sorted(reasons))


def refused(reasons: Collection[HoldReason]) -> str:
    """Why a result that is held for these cannot be released, and what helps; "" when a person may accept them all."""
    against = sorted(set(reasons) - ACCEPTABLE)
    if not against:
        return ""
    help = "; ".join(dict.fromkeys(HOLDS[reason].words for reason in against))
    return f"the result is held ({words(against)}), which nobody can accept: {help}"


# ---- steps ----------------------------------------------------------------------------------------------------------


class ReviewStep(StrEnum):
    VERIFY = "verify"
    RELEASE = "release"
    ACCEPT_CHANGE = "accept_change"
    REJECT_CHANGE = "reject_change"
    REJECT = "reject"
    HOLD = "hold"
    RERUN = "rerun"
    COMMENT = "comment"
    CORRECT = "correct"
    RETRACT = "retract"


class Standing(StrEnum):
    """Where a result stands, as the steps see it."""

    PRELIMINARY = "preliminary"
    VERIFIED = "verified"  # preliminary, by the first of two people
    HELD = "held"  # for reasons that a person may accept
    BLOCKED = "blocked"  # for one that nobody may
    UNDECIDED = "undecided"  # registered, for no reason that is written down
    RELEASED = "released"
    CHANGED = "changed"  # released, and a change waits
    REJECTED = "rejected"  # cancelled
    RETRACTED = "retracted"  # entered in error


def standing(status: ResultStatus, held: Collection[HoldReason], *, pending: bool, verified: bool) -> Standing:
    """`pending`: a change to a released result waits; `verified`: by the first of two."""
    if status in RELEASED:
        return Standing.CHANGED if pending else Standing.RELEASED
    if status is ResultStatus.CANCELLED:
        return Standing.REJECTED
    if status is ResultStatus.ENTERED_IN_ERROR:
        return Standing.RETRACTED
    if held:
        return Standing.HELD if ACCEPTABLE.issuperset(held) else Standing.BLOCKED
    if status is ResultStatus.REGISTERED:
        return Standing.UNDECIDED
    return Standing.VERIFIED if verified else Standing.PRELIMINARY


_WAITING = (Standing.PRELIMINARY, Standing.VERIFIED, Standing.HELD, Standing.BLOCKED, Standing.UNDECIDED)
_OUT = (Standing.RELEASED, Standing.CHANGED)
_S, _R = ReviewStep, Standing
_NO_CHANGE = "no change to this result waits for a decision"
_NEVER = "the result was never released; reject it"
_OUTSIDE = "the result was released; correct or retract it"
_GONE = {
    _R.REJECTED: "the result was rejected; measure again, or replay its message",
    _R.RETRACTED: "the result was retracted; measure again",
}
# What is in neither table is legal. AGAIN: it was done before; nothing changes, and it is no error.
AGAIN: frozenset[tuple[ReviewStep, Standing]] = frozenset(
    {(_S.REJECT, _R.REJECTED), (_S.RETRACT, _R.RETRACTED)}
    | {(step, place) for step in (_S.VERIFY, _S.RELEASE) for place in _OUT}
)
REFUSED: Mapping[tuple[ReviewStep, Standing], str] = {
    **{(step, place): text for step in _S for place, text in _GONE.items() if (step, place) not in AGAIN},
    **{
        (step, place): _NO_CHANGE
        for step in (_S.ACCEPT_CHANGE, _S.REJECT_CHANGE)
        for place in _R
        if place is not _R.CHANGED
    },
    **{(step, place): _OUTSIDE for step in (_S.REJECT, _S.HOLD) for place in _OUT},
    **{(_S.RETRACT, place): _NEVER for place in _WAITING},
    **{
        (step, _R.UNDECIDED): "the result is registered; only a result that is preliminary can be released"
        for step in (_S.VERIFY, _S.RELEASE)
    },
    **{(step, _R.BLOCKED): "" for step in (_S.VERIFY, _S.RELEASE)},  # in the words of `refused`
    (_S.CORRECT, _R.CHANGED): "a change to this result waits; accept or reject it first",
}  # fmt: skip


def same_version(now: int, seen: int | None, also: int | None = None) -> None:
    """Raise ReviewError unless the person looked at the version that there is; None: they do not say."""
    if seen not in (None, now, also):
        text = f"the result has changed: version {seen} was looked at, it is now version {now}"
        raise ReviewError(Refusal.CONFLICT, text)
