"""Work that an analyzer is told without asking, in a driver's dialect: `[download]` of a `driver.toml`. Pure.

The lines are those of `[answer]` (`driver.dialogue`), whose words for tests, priorities, sexes and specimen types they
share; there is no query, so a place of it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from interface.domain.model import Protocol
from interface.driver import dialogue
from interface.driver.dialogue import LIS2_SEXES, Answer, Asked, Each, Line, Over, Work

if TYPE_CHECKING:
    from interface.driver.manifest import Driver


@dataclass(frozen=True, slots=True)
class Download:
    """What is said when work is new, when a test is to be run again, and when it is to be done no more; () where the
    analyzer cannot be told. `same_connection`: HL7, on the connection that the analyzer has made."""

    new: tuple[Line, ...] = ()
    again: tuple[Line, ...] = ()
    cancel: tuple[Line, ...] = ()
    same_connection: bool = False


_HEAD = r"H|\^&|||Labora||||||||LIS2-A2|{now}"


def _order(action: str) -> tuple[Line, ...]:
    return (
        _HEAD,
        Each(
            Over.SPECIMEN,
            (
                "P|{n}|{patient_id}|||{family}^{given}||{birth_date}|{sex}",
                "O|1|{specimen_id}||{tests}|{priority}||{collected}||||" + action + "||||{specimen_type}||||||||||O",
            ),
        ),
        "L|1|N",
    )


# LIS02-A2: O-12 N is a new request, A adds tests to a specimen that is known, C takes back the tests that are named;
# O-26 O is an order. A test that is to be run again is added.
STANDARD = Download(new=_order("N"), again=_order("A"), cancel=_order("C"))


# LIS02-A2 9.4.5: the manufacturer's code is the fourth component.
_STANDARD_WORDS = {Protocol.LIS2: Answer(test="^^^{code}", sex=LIS2_SEXES), Protocol.HL7: Answer(test="^^^{code}")}


def download_of(driver: Driver) -> Download | None:
    """How a driver's analyzer is told of its work; None where it cannot be. The standard's way is nobody's but the
    generic driver's: an analyzer's own document says whether it takes any."""
    if driver.download is not None:
        return driver.download
    return STANDARD if driver.generic and driver.protocol is Protocol.LIS2 and driver.layout is None else None


def download(
    driver: Driver, lines: Sequence[Line], work: Work, now: datetime, control_id: str, encoding: str = ""
) -> bytes | None:
    """The message that tells an analyzer of work on one specimen; None where the dialect has no word for it.

    `now`: local time of the analyzer. Raises DriverError when the encoding lacks a character.
    """
    dialect = replace(driver.answer or _STANDARD_WORDS[driver.protocol], found=(tuple(lines),), none=())
    asked = Asked(driver.protocol, {})
    made = dialogue.answer(dialect, asked, [work], now, control_id, encoding=encoding or driver.encoding)
    return made[0] if made else None
