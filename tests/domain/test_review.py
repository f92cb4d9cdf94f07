"""Every reason to hold has an answer, and a person can accept none that says that something is not known."""

from __future__ import annotations

from interface.domain.model import HoldReason
from interface.domain.review import ACCEPTABLE, HOLDS, OF_THE_VALUE, REFUSED, WHEN, ReviewStep, Standing, refused

# Typed again, by whoever reviews this list: what was measured, for whom and of what is known, a person judges the rest.
MAY = {
    "incomplete_transmission", "unknown_flag", "questionable", "ambiguous_interval", "patient_name", "delta",
    "interference", "measuring_range", "implausible", "inconsistent", "rule", "rerun", "already_reported", "person",
    "said_anew", "before_specimen",
}  # fmt: skip
MAY_NOT = {
    "unmapped_code", "unknown_unit", "no_such_specimen", "ambiguous_specimen", "patient_mismatch", "driver_mismatch",
    "run_failed", "not_ordered", "no_value", "unknown_status", "unreadable_value", "changed_after_release",
    "not_patient", "control_like_id", "outside_window", "qc_failed", "qc_expired",
    "suppressed",
}  # fmt: skip


def test_what_a_person_may_accept_is_written_down_for_every_reason() -> None:
    assert set(HoldReason) == set(HOLDS) == set(WHEN) == MAY | MAY_NOT
    assert ACCEPTABLE == MAY
    assert {reason for reason in HoldReason if refused({reason})} == MAY_NOT
    assert all(hold.words for hold in HOLDS.values()) and all(WHEN.values())


def test_one_reason_that_nobody_may_accept_is_enough() -> None:
    for against in MAY_NOT:
        text = refused({HoldReason(against), *ACCEPTABLE})
        assert text.startswith(f"the result is held ({against}), which nobody can accept: "), text
        assert HOLDS[HoldReason(against)].words in text


def test_a_new_value_answers_no_doubt_about_whose_it_is() -> None:
    about_whose = {
        "no_such_specimen", "ambiguous_specimen", "patient_mismatch", "patient_name", "control_like_id",
        "outside_window", "not_patient", "not_ordered", "unmapped_code", "driver_mismatch", "already_reported",
        "incomplete_transmission", "qc_failed", "qc_expired", "changed_after_release", "before_specimen",
    }  # fmt: skip
    assert set(HoldReason) - OF_THE_VALUE == about_whose


def test_a_refusal_is_one_sentence() -> None:
    for (step, place), text in REFUSED.items():
        assert isinstance(step, ReviewStep)
        blocked = place is Standing.BLOCKED and step in (ReviewStep.VERIFY, ReviewStep.RELEASE)
        assert bool(text) is not blocked, "what blocks a result is said by its reasons"
        assert not text or (text[0].islower() and not text.endswith(".") and "\n" not in text)
