"""What is to happen on the day of `scripts/bench day`, and what every order is to be at its end. Written before it
begins, by a seed; what is judged is whether it came so."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SPLIT = 0.2  # of the orders: for two analyzers


@dataclass(frozen=True, slots=True)
class Kind:
    """One analyzer: its driver, the tests it measures here with its codes for them, the tubes it takes."""

    driver: str
    tests: Mapping[str, str]
    tube: str = "SER"
    told: bool = False
    hl7: bool = False


KINDS = (
    Kind("sysmex_xn", {"RBC": "RBC", "HGB": "HGB", "HCT": "HCT"}, "BLD"),
    Kind("beckman_dxh", {"WBC": "UWBC"}, "BLD"),
    Kind("roche_cobas_c311", {"ALT": "685", "ALP": "158", "TBIL_SI": "712"}),
    Kind("stago_sta", {"INR": "2", "PT": "4"}, "PLAS", told=True),
    Kind("beckman_access", {"TESTO_SI": "Testo", "FSH": "hFSH", "SHBG": "SHBG"}),
    Kind("siemens_immulite", {"T4": "TT4", "FERR": "FER", "LH": "LH"}),
    Kind("sysmex_ca1500", {"APTT": "051", "FIB": "062"}, "PLAS"),
    Kind("mindray_bc6000", {"NEUT": "751-8", "LYMPH": "731-0", "MONO": "742-7"}, "BLD", hl7=True),
    Kind("mindray_bc5380", {"MCV": "787-2", "MCH": "785-6"}, "BLD", hl7=True),
    Kind("erba_xl", {"DBIL": "DBILL", "GLU": "GLCC"}, told=True),
    Kind("diasorin_liaison", {"FT4": "FT4"}, told=True),
    Kind("ids_isys", {"VITD": "25OHD"}, told=True),
)
NUMBER = {kind.driver: at for at, kind in enumerate(KINDS)}
# Codes that are the laboratory's own settings in these analyzers: no map is shipped for them, a site lays it down.
SITE_MAPS = (("stago_sta", ("INR", "PT")), ("erba_xl", ("DBIL", "GLU")))
REFUSING = NUMBER["stago_sta"]
RESERVE, RESERVE_TESTS = NUMBER["sysmex_ca1500"], {"INR": "044", "PT": "041"}
DROPPING = (NUMBER["diasorin_liaison"], NUMBER["roche_cobas_c311"])  # one that is told, one that asks


class Fate(StrEnum):
    """What happens to an order beside being measured."""

    PLAIN = "plain"
    AGAIN = "sent again"  # by the hospital, before it is measured and when all is done
    RERUN = "measured again"  # the first of its tests, because a person wants it
    EARLY = "cancelled before receipt"  # by the hospital
    LATE = "cancelled when told"  # by the laboratory, when the analyzers know of it: they measure nothing
    IGNORED = "cancelled and measured"  # likewise, and they measure it all the same: held
    TOO_LATE = "cancelled when done"  # by the hospital, which is told that it is too late


_SHARES = {
    Fate.AGAIN: 0.08, Fate.RERUN: 0.04, Fate.EARLY: 0.03, Fate.LATE: 0.03, Fate.IGNORED: 0.02, Fate.TOO_LATE: 0.02,
}  # fmt: skip
CANCELS = frozenset({Fate.EARLY, Fate.LATE, Fate.IGNORED})


@dataclass(slots=True)
class Placed:
    """An order as the hospital knows it, and what is to become of it. `kinds[i]` is whose `tests[i]` is."""

    number: str
    barcode: str
    kinds: tuple[int, ...]
    tests: tuple[str, ...]
    over: str  # hl7, fhir
    fate: Fate = Fate.PLAIN
    refused: bool = False  # what of it is for the analyzer that refuses is placed while it does
    resources: list[str] = field(default_factory=list)  # FHIR: its ServiceRequests

    @property
    def analyzers(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.kinds))

    @property
    def cancelled(self) -> bool:
        return self.fate in CANCELS

    @property
    def moved(self) -> bool:
        """What is refused of it goes to the reserve when a person says so, not to the analyzer again."""
        return self.refused and int(self.number[1:]) // len(KINDS) % 2 == 1


def mended_after(orders: int) -> int:
    """How many orders are placed before a person sees to the analyzer that refuses."""
    return min(orders // 2, 240)


def plan(orders: int, seed: int) -> list[Placed]:
    """At least one order of each fate, if there are enough for it."""
    dice = random.Random(seed)  # noqa: S311
    made = []
    for n in range(orders):
        first = n % len(KINDS)
        chosen = [first]
        alike = [at for at, one in enumerate(KINDS) if at != first and one.tube == KINDS[first].tube]
        if alike and dice.random() < SPLIT:
            chosen.append(dice.choice(alike))
        pairs = []
        for at in chosen:
            own = list(KINDS[at].tests)
            pairs += [(at, test) for test in dice.sample(own, dice.randint(1, len(own)))]
        kinds, tests = zip(*pairs, strict=True)
        over = "hl7" if n // len(KINDS) % 2 else "fhir"
        refused = REFUSING in kinds and n < mended_after(orders)
        made.append(Placed(f"O{n:06d}", f"26{n:08d}", kinds, tests, over, refused=refused))
    free = dice.sample(made, len(made))
    for fate, share in _SHARES.items():
        for _ in range(max(2, round(share * orders))):
            found = next((one for one in free if not one.refused or fate not in (Fate.RERUN, Fate.IGNORED)), None)
            if found is not None:
                free.remove(found)
                found.fate = fate
    return made
