"""FHIR R4 search, said a second time: a matcher that looks at resources as they are shown, one after the other.

Nothing of the engine is used: which element a parameter looks at is R4's SearchParameter expression, what a value means
is search.html. So what a statement finds can be compared with what the resources say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

Json = dict[str, Any]
STATUS = "http://hl7.org/fhir/"

# https://hl7.org/fhir/R4/searchparameter-registry.html: (type, elements, system of a plain code)
ELEMENTS: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "Patient": {
        "identifier": ("token", "identifier", ""), "family": ("name", "name.family", ""),
        "given": ("name", "name.given", ""), "name": ("name", "name.family|name.given", ""),
        "birthdate": ("date", "birthDate", ""), "gender": ("token", "gender", STATUS + "administrative-gender"),
        "active": ("token", "active", ""), "telecom": ("token", "telecom", ""), "phone": ("token", "telecom", ""),
        "email": ("token", "telecom", ""), "link": ("reference", "link.other", ""),
    },
    "Observation": {
        "identifier": ("token", "identifier", ""), "status": ("token", "status", STATUS + "observation-status"),
        "category": ("token", "category", ""), "code": ("token", "code", ""), "combo-code": ("token", "code", ""),
        "date": ("date", "effectiveDateTime", ""), "patient": ("reference", "subject", ""),
        "subject": ("reference", "subject", ""), "specimen": ("reference", "specimen", ""),
        "based-on": ("reference", "basedOn", ""), "device": ("reference", "device", ""),
        "performer": ("reference", "performer", ""), "has-member": ("reference", "hasMember", ""),
        "value-quantity": ("quantity", "valueQuantity", ""), "value-concept": ("token", "valueCodeableConcept", ""),
        "value-string": ("string", "valueString", ""),
    },
    "DiagnosticReport": {
        "identifier": ("token", "identifier", ""), "status": ("token", "status", STATUS + "diagnostic-report-status"),
        "category": ("token", "category", ""), "code": ("token", "code", ""),
        "date": ("date", "effectiveDateTime", ""), "issued": ("date", "issued", ""),
        "patient": ("reference", "subject", ""), "subject": ("reference", "subject", ""),
        "based-on": ("reference", "basedOn", ""), "result": ("reference", "result", ""),
        "specimen": ("reference", "specimen", ""), "performer": ("reference", "performer", ""),
        "conclusion": ("token", "conclusionCode", ""),
    },
    "ServiceRequest": {
        "identifier": ("token", "identifier", ""), "requisition": ("token", "requisition", ""),
        "status": ("token", "status", STATUS + "request-status"),
        "intent": ("token", "intent", STATUS + "request-intent"),
        "priority": ("token", "priority", STATUS + "request-priority"), "code": ("token", "code", ""),
        "category": ("token", "category", ""), "authored": ("date", "authoredOn", ""),
        "occurrence": ("date", "occurrenceDateTime", ""), "patient": ("reference", "subject", ""),
        "subject": ("reference", "subject", ""), "requester": ("reference", "requester", ""),
        "specimen": ("reference", "specimen", ""), "based-on": ("reference", "basedOn", ""),
    },
    "Specimen": {
        "identifier": ("token", "identifier", ""), "accession": ("token", "accessionIdentifier", ""),
        "status": ("token", "status", STATUS + "specimen-status"), "type": ("token", "type", ""),
        "collected": ("date", "collection.collectedDateTime", ""), "patient": ("reference", "subject", ""),
        "subject": ("reference", "subject", ""), "container-id": ("token", "container.identifier", ""),
        "parent": ("reference", "parent", ""),
    },
    "Practitioner": {
        "identifier": ("token", "identifier", ""), "family": ("string", "name.family", ""),
        "given": ("string", "name.given", ""), "name": ("string", "name.family|name.given", ""),
        "active": ("token", "active", ""),
    },
    "Organization": {
        "identifier": ("token", "identifier", ""), "name": ("string", "name", ""), "type": ("token", "type", ""),
        "active": ("token", "active", ""),
    },
    "Device": {
        "identifier": ("token", "identifier", ""), "device-name": ("string", "deviceName.name", ""),
        "status": ("token", "status", STATUS + "device-status"),
    },
}  # fmt: skip
COMMON = {
    "_id": ("token", "id", ""), "_lastUpdated": ("date", "meta.lastUpdated", ""), "_tag": ("token", "meta.tag", ""),
    "_security": ("token", "meta.security", ""), "_profile": ("uri", "meta.profile", ""),
    "_source": ("uri", "meta.source", ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """Every resource there is, by type and id."""

    resources: Mapping[str, Mapping[str, Json]]

    def find(self, kind: str, parameters: Iterable[tuple[str, str]]) -> set[str]:
        """The ids of those that meet every parameter."""
        asked = list(parameters)
        return {
            id for id, one in self.resources[kind].items() if all(self.meets(one, name, value) for name, value in asked)
        }

    def meets(self, resource: Json, name: str, value: str) -> bool:
        if name.startswith("_has:"):
            _, kind, link, rest = name.split(":", 3)
            return any(
                self.refers(other, link, resource) and self.meets(other, rest, value)
                for other in self.resources[kind].values()
            )
        if "." in name:
            head, _, rest = name.partition(".")
            link, _, typed = head.partition(":")
            return any(
                self.refers(resource, link, target) and self.meets(target, rest, value)
                for kind, each in self.resources.items()
                for target in each.values()
                if typed in ("", kind)
                and (rest.startswith("_has:") or element(kind, rest.partition(".")[0].partition(":")[0]))
            )
        base, _, modifier = name.partition(":")
        kind, path, system = element(resource["resourceType"], base) or ("", "", "")
        found = list(at(resource, path))
        if kind == "reference":  # what only says a name refers to nothing that could be found
            found = [one for one in found if "reference" in one]
        if modifier == "missing":
            return (not found) == (value == "true")
        if kind == "reference":
            return self._reference(resource, base, modifier, value)
        any_of = any(MATCHERS[kind](found, system, modifier, one) for one in value.split(",") if one)
        return any_of != (modifier == "not")

    def _reference(self, resource: Json, base: str, modifier: str, value: str) -> bool:
        if modifier == "identifier":
            return self.meets(resource, f"{base}.identifier", value)
        for one in value.split(","):
            kind, _, id = one.rpartition("/")
            kind = kind.rpartition("/")[2] or modifier
            for known, each in self.resources.items():
                if kind in ("", known) and id in each and self.refers(resource, base, each[id]):
                    return True
        return False

    def refers(self, resource: Json, link: str, target: Json) -> bool:
        """Directly, or to a record that was merged into the target."""
        _, path, _ = element(resource["resourceType"], link) or ("", "", "")
        wanted = f"{target['resourceType']}/{target['id']}"
        for one in at(resource, path):
            reference = one.get("reference", "")
            if reference == wanted:
                return True
            kind, _, id = reference.partition("/")
            for other in self.resources.get(kind, {}).get(id, {}).get("link", []):
                if other["type"] == "replaced-by" and other["other"]["reference"] == wanted:
                    return True
        return False


def element(kind: str, name: str) -> tuple[str, str, str] | None:
    return COMMON.get(name) or ELEMENTS[kind].get(name)


def at(value: Any, path: str) -> Iterable[Any]:
    """Every value at a path of names; lists are gone through."""
    if isinstance(value, list):
        for one in value:
            yield from at(one, path)
        return
    if "|" in path:
        for part in path.split("|"):
            yield from at(value, part)
        return
    if not path:
        yield value
        return
    head, _, rest = path.partition(".")
    if isinstance(value, dict) and head in value:
        yield from at(value[head], rest)


def folded(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFD", text) if not unicodedata.combining(one)).casefold()


# ---- values ----------------------------------------------------------------------------------------------------------


def codings(found: list[Any], system: str) -> Iterable[tuple[str, str]]:
    for one in found:
        if isinstance(one, dict) and "value" in one:
            yield one.get("system", ""), one["value"]
        elif isinstance(one, dict):
            yield from ((each.get("system", ""), each.get("code", "")) for each in one.get("coding", []))
        else:
            yield system, str(one).lower() if isinstance(one, bool) else str(one)


def token(found: list[Any], system: str, modifier: str, value: str) -> bool:
    if modifier == "text":
        texts = [one.get("text", "") for one in found if isinstance(one, dict)]
        return any(folded(text).startswith(folded(value)) for text in texts if text)
    if modifier == "of-type":
        of, code, number = value.split("|")
        return any(
            one["value"] == number
            and any((each["system"], each["code"]) == (of, code) for each in one.get("type", {}).get("coding", []))
            for one in found
        )
    of, bar, code = value.rpartition("|")
    return any(
        (not bar or of == at_system) and (code in ("", at_code)) for at_system, at_code in codings(found, system)
    )


_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})  # ICAO Doc 9303-3, section 6 A


def spelled(text: str) -> set[str]:
    """A name's word as it may be written: without marks, or with two letters for one."""
    low = text.casefold()
    return {folded(one).replace("ł", "l") for one in (low, low.translate(_TWO_LETTERS))}


def name(found: list[Any], system: str, modifier: str, value: str) -> bool:
    """Every word that is asked for begins (is in, with :contains) some word of the name, however they are spelled."""
    if modifier == "exact":
        return value in found
    written = {one for part in found for word in part.split() for one in spelled(word)}
    words = {word for one in written for word in (*re.findall(r"\w+", one), re.sub(r"\W", "", one))}
    compare: Callable[[str, str], bool] = str.__contains__ if modifier == "contains" else str.startswith
    asked = [re.findall(r"\w+", one) for part in value.split() for one in [min(spelled(part))]]
    other = [re.findall(r"\w+", one) for part in value.split() for one in [max(spelled(part))]]
    pairs = [pair for first, second in zip(asked, other, strict=True) for pair in zip(first, second, strict=True)]
    return bool(pairs) and all(any(compare(word, one) for word in words for one in pair) for pair in pairs)


def string(found: list[Any], system: str, modifier: str, value: str) -> bool:
    if modifier == "exact":
        return value in found
    compare: Callable[[str, str], bool] = str.__contains__ if modifier == "contains" else str.startswith
    return any(compare(folded(one), folded(value)) for one in found)


def date(found: list[Any], system: str, modifier: str, value: str) -> bool:
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    low, high = period(text)
    for one in found:
        begins, ends = period(one)
        point = begins  # an instant of ours is a point; a day is a period
        if {
            "eq": low <= begins and (ends <= high if len(one) == 10 else point < high),
            "ne": not (low <= begins < high), "gt": begins >= high, "sa": begins >= high, "ge": begins >= low,
            "lt": begins < low, "eb": begins < low, "le": begins < high,
        }[prefix]:  # fmt: skip
            return True
    return False


def period(text: str) -> tuple[datetime, datetime]:
    if len(text) == 4:
        return datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC)
    if len(text) == 7:
        year, month = int(text[:4]), int(text[5:])
        return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    begins = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if len(text) == 10:
        return begins.replace(tzinfo=UTC), begins.replace(tzinfo=UTC) + timedelta(days=1)
    return begins, begins + (timedelta(seconds=1) if begins.microsecond == 0 else timedelta(microseconds=1))


def quantity(found: list[Any], system: str, modifier: str, value: str) -> bool:
    text, *unit = value.split("|")
    prefix, digits = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    wanted = Decimal(digits)
    half = Decimal(5).scaleb(int(wanted.as_tuple().exponent) - 1)
    far = Decimal("1e30")
    for one in found:
        if unit and (unit[0] not in ("", one.get("system")) or unit[1] not in ("", one.get("code"))):
            continue
        number, comparator = Decimal(str(one["value"])), one.get("comparator", "")
        low = -far if comparator in ("<", "<=") else number
        high = far if comparator in (">", ">=") else number
        # the ends that do not belong to it are a little further in
        low, high = low + (Decimal("1e-9") * (comparator == ">")), high - (Decimal("1e-9") * (comparator == "<"))
        if {
            "eq": wanted - half <= low and high < wanted + half, "gt": high > wanted, "lt": low < wanted,
            "ne": not (wanted - half <= low and high < wanted + half), "ge": high >= wanted, "le": low <= wanted,
            "sa": low > wanted, "eb": high < wanted,
        }[prefix]:  # fmt: skip
            return True
    return False


def uri(found: list[Any], system: str, modifier: str, value: str) -> bool:
    return value in found


MATCHERS = {"uri": uri, "token": token, "name": name, "string": string, "date": date, "quantity": quantity}
