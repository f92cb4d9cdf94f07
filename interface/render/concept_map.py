"""Maps as FHIR R4: a ConceptMap, and the LIVD catalogue of a vendor (HL7 FHIR IG LIVD, 1.0.0).

In a LIVD Bundle `ConceptMap.group.element.code` is the id of the ObservationDefinition whose code the analyzer sends,
and what a target depends on are the words `specimen` and `result` of the LIVD sheet. Our own ConceptMap says as
`product` which test of the laboratory is meant; it comes back as it went.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from interface.domain.map_files import HELD, Fault, FileFaults, FileRow, FileRows
from interface.render.fhir import LOCAL, LOINC, SPECIMEN_TYPE_SYSTEM, TEST_SYSTEM, UCUM
from interface.render.map_table import read_instant

DRIVER, LINK, VALID, METHOD = f"{LOCAL}driver:", f"{LOCAL}link:", f"{LOCAL}valid", f"{LOCAL}method"
_LIVD = "http://hl7.org/fhir/uv/livd"
_SAME = frozenset({"equal", "equivalent"})
COPYRIGHT = (
    "This material contains content from LOINC (https://loinc.org). LOINC is copyright © Regenstrief Institute, Inc."
    " and the Logical Observation Identifiers Names and Codes (LOINC) Committee and is available at no cost under the"
    " license at https://loinc.org/license."
)

Json = Mapping[str, Any]
_OPENING = re.compile(r'"(?:[^"\\]|\\.)*"|\{', re.DOTALL)


def read_fhir(file: str, text: str) -> FileRows:
    """The rows of a ConceptMap or a LIVD Bundle. Raises FileFaults for anything else."""
    try:
        resource = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FileFaults([Fault(file, error.lineno, "", f"is not JSON: {error.msg}")]) from error
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind not in ("ConceptMap", "Bundle"):
        raise FileFaults([Fault(file, 1, "resourceType", "is neither ConceptMap nor Bundle")])
    reader = _Reader(file, _Places(text, resource))
    try:
        if kind == "ConceptMap":
            reader.concept_map(resource, "ConceptMap")
        else:
            reader.bundle(resource)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        place = reader.at or "resource"
        raise FileFaults(
            [Fault(file, reader.line, place, f"is not as FHIR R4 has it ({type(error).__name__})")]
        ) from error
    if not reader.rows and not reader.faults:
        raise FileFaults([Fault(file, 1, "", "has no mapping of test codes")])
    return FileRows(tuple(reader.rows), tuple(reader.faults))


class _Places:
    """In which line each object begins. Objects are met in the text in the order in which a walk meets them."""

    def __init__(self, text: str, resource: object) -> None:
        openings = [match.start() for match in _OPENING.finditer(text) if match[0] == "{"]
        objects = list(_objects(resource))
        same = len(openings) == len(objects)  # not where a key is there twice
        self._at = {id(one): at for one, at in zip(objects, openings, strict=True)} if same else {}
        self._ends = [at for at, letter in enumerate(text) if letter == "\n"]
        self._kept = resource  # ids are good for as long as the objects live

    def line(self, one: object) -> int:
        at = self._at.get(id(one))
        return 0 if at is None else bisect_right(self._ends, at) + 1


def _objects(value: object) -> Iterator[object]:
    """Every object within, in the order of the text."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


@dataclass(slots=True)
class _Reader:
    file: str
    places: _Places
    rows: list[FileRow] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    at: str = ""
    line: int = 0
    _codes: dict[str, tuple[str, str]] = field(default_factory=dict)  # of an ObservationDefinition: code, name
    _models: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _livd: bool = False

    def bundle(self, bundle: Json) -> None:
        self._livd = True
        resources = [(f"Bundle.entry[{n}].resource", entry["resource"]) for n, entry in enumerate(bundle["entry"])]
        models = {
            resource["id"]: resource.get("modelNumber", "")
            for _, resource in resources
            if resource["resourceType"] == "DeviceDefinition"
        }
        for path, resource in resources:
            if resource["resourceType"] == "ObservationDefinition":
                self.at, self.line = path, self.places.line(resource)
                coding = resource["code"]["coding"][0]
                self._codes[resource["id"]] = (coding["code"].strip(), coding.get("display", ""))
                for extension in resource.get("extension", ()):
                    device = extension.get("valueReference", {}).get("reference", "").rpartition("/")[2]
                    if extension["url"].endswith("/ext-device") and models.get(device):
                        self._models[resource["id"]].append(models[device])
        for path, resource in resources:
            if resource["resourceType"] == "ConceptMap":
                self.concept_map(resource, path)

    def concept_map(self, concept_map: Json, path: str) -> None:
        profiles = concept_map.get("meta", {}).get("profile", ())
        if any("resultvalue" in profile for profile in profiles):
            return  # LIVD 0.3: words of results, not codes of tests
        self.at, self.line = path, self.places.line(concept_map)
        for number, group in enumerate(concept_map["group"]):
            system = group.get("target", LOINC if self._livd else "")
            where = f"{path}.group[{number}]"
            self.at, self.line = where, self.places.line(group)
            if system not in (LOINC, TEST_SYSTEM):
                text = f"{system!r} is neither {LOINC} nor {TEST_SYSTEM}" if system else "is missing"
                self.faults.append(Fault(self.file, self.line, f"{where}.target", text))
                continue
            for place, element in enumerate(group["element"]):
                self._element(group, element, f"{where}.element[{place}]", system)

    def _element(self, group: Json, element: Json, path: str, system: str) -> None:
        self.at, self.line = path, self.places.line(element)
        code, name, models = element.get("code", "").strip(), element.get("display", ""), [""]
        if self._livd:
            if code not in self._codes:
                text = f"the bundle has no ObservationDefinition {code!r}" if code else "is missing"
                self.faults.append(Fault(self.file, self.line, f"{path}.code", text))
                return
            models = self._models.get(code, [""])
            code, own_name = self._codes[code]
            name = own_name or name
        for place, target in enumerate(element.get("target", ())):
            self.at, self.line = f"{path}.target[{place}]", self.places.line(target)
            row = self._target(group, target, path, system, code, name)
            for model in dict.fromkeys(models):
                self.rows.append(replace(row, model=model) if model else row)

    def _target(self, group: Json, target: Json, path: str, system: str, code: str, name: str) -> FileRow:
        source: str = group.get("source", "")
        own = source.startswith((DRIVER, LINK))
        needs = {one["property"]: one["value"] for one in target.get("dependsOn", ())}
        known = (TEST_SYSTEM, METHOD) if own else (TEST_SYSTEM,)
        gives = {one["property"]: one["value"] for one in target.get("product", ()) if one.get("system") in known}
        test = target.get("code", "") if system == TEST_SYSTEM else gives.get("test", "")
        matched = target.get("equivalence", "")
        if own and matched == "unmatched":
            test = HELD
        refused = "" if own or matched in _SAME else f"the equivalence is {matched or 'not said'}, not equivalent"
        period: Json = next((e["valuePeriod"] for e in target.get("extension", ()) if e["url"] == VALID), {})
        at = self.at
        if not all(isinstance(text, str) for text in (code, name, test, *needs.values(), *gives.values())):
            raise TypeError("a text is none")
        return FileRow(
            self.file,
            self.line,
            code,
            test=test,
            loinc=target.get("code", "").strip() if system == LOINC else "",
            driver=source.removeprefix(DRIVER) if source.startswith(DRIVER) else "",
            link=source.removeprefix(LINK) if source.startswith(LINK) else "",
            specimen=needs.get("specimen", ""),
            unit=needs.get("unit", ""),
            method=gives.get("method", "") if own else "",
            result=needs.get("result", ""),
            name=name,
            start=read_instant(period["start"]) if "start" in period else None,
            end=read_instant(period["end"]) if "end" in period else None,
            note=target.get("comment", "") if own else "",
            vendor=not own and system == LOINC,
            refused=refused,
            names={
                "code": f"{path}.code",
                "loinc": f"{at}.code",
                "test": f"{at}.product",
                "specimen": f"{at}.dependsOn",
            },
        )


# ---- the other way ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MapLine:
    """One row of a map as an export tells it."""

    driver: str
    link: str
    code: str
    specimen_type: str
    test: str
    test_name: str
    loinc: str
    unit: str
    method: str
    start: datetime
    end: datetime | None
    note: str


def write_concept_map(lines: Sequence[MapLine], name: str, at: datetime) -> bytes:
    """One ConceptMap, a group for each driver or link and target system."""
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        source = f"{LINK}{line.link}" if line.link else f"{DRIVER}{line.driver}"
        groups[source, LOINC if line.loinc else TEST_SYSTEM].append(
            {"code": line.code, "target": [_written_target(line)]}
        )
    resource = {
        "resourceType": "ConceptMap",
        "url": f"urn:uuid:{uuid5(NAMESPACE_URL, f'labora map {name}')}",
        "name": "LaboraMap",
        "title": f"Codes of analyzers at {name}",
        "status": "active",
        "date": at.isoformat(timespec="seconds"),
        "copyright": COPYRIGHT,
        "group": [{"source": s, "target": t, "element": elements} for (s, t), elements in sorted(groups.items())],
    }
    return orjson.dumps(resource, option=orjson.OPT_INDENT_2)


def _written_target(line: MapLine) -> dict[str, Any]:
    needs = [
        {"property": name, "system": system, "value": value}
        for name, system, value in (("specimen", SPECIMEN_TYPE_SYSTEM, line.specimen_type), ("unit", UCUM, line.unit))
        if value
    ]
    period = {"start": line.start.isoformat()} | ({"end": line.end.isoformat()} if line.end else {})
    target: dict[str, Any] = {"extension": [{"url": VALID, "valuePeriod": period}]}
    if line.test:
        target |= {"code": line.loinc or line.test, "display": line.test_name, "equivalence": "equivalent"}
    else:
        target["equivalence"] = "unmatched"
    if line.note:
        target["comment"] = line.note
    if needs:
        target["dependsOn"] = needs
    gives = [
        {"property": name, "system": system, "value": value}
        for name, system, value in (
            ("test", TEST_SYSTEM, line.test if line.loinc else ""), ("method", METHOD, line.method)
        )
        if value
    ]  # fmt: skip
    if gives:
        target["product"] = gives
    return target


@dataclass(frozen=True, slots=True)
class Device:
    """The analyzer of a driver, as LIVD has it."""

    driver: str
    manufacturer: str
    model: str


def write_livd(lines: Sequence[MapLine], device: Device, publisher: str, at: datetime) -> bytes:
    """A LIVD Bundle of those rows that have a LOINC code, of one driver."""
    mapped = [line for line in lines if line.loinc]
    base = f"labora livd {publisher} {device.driver}"
    ids = {
        code: str(uuid5(NAMESPACE_URL, f"{base} test {code}")) for code in dict.fromkeys(line.code for line in mapped)
    }
    device_id, map_id = (str(uuid5(NAMESPACE_URL, f"{base} {what}")) for what in ("device", "map"))
    entries = [_device(device, device_id, ids.values())]
    entries += [_observation(code, identifier, device, device_id) for code, identifier in ids.items()]
    entries += [_livd_map(mapped, ids, map_id), _value_set(mapped)]
    whole = [_catalogue(base, publisher, at, device_id, ids.values(), map_id), *entries]
    bundle = {
        "resourceType": "Bundle",
        "meta": {"profile": [f"{_LIVD}/StructureDefinition/bundle-uv-livd"]},
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid5(NAMESPACE_URL, f'{base} {at}')}"},
        "type": "collection",
        "timestamp": at.isoformat(timespec="milliseconds"),
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in whole],
    }
    return orjson.dumps(bundle, option=orjson.OPT_INDENT_2)


def _profiled(kind: str, identifier: str, profile: str) -> dict[str, Any]:
    return {"resourceType": kind, "id": identifier, "meta": {"profile": [f"{_LIVD}/StructureDefinition/{profile}"]}}


def _catalogue(
    base: str, publisher: str, at: datetime, device_id: str, definitions: Any, map_id: str
) -> dict[str, Any]:
    def section(title: str, code: str, references: list[str]) -> dict[str, Any]:
        coding = {"system": f"{_LIVD}/CodeSystem/livd-section-type", "code": code, "display": title}
        entry = [{"reference": reference} for reference in references]
        return {"title": title, "code": {"coding": [coding]}, "entry": entry}

    return _profiled("Composition", str(uuid5(NAMESPACE_URL, f"{base} catalogue")), "catalog-uv-livd") | {
        "status": "final",
        "type": {"coding": [{"system": LOINC, "code": "90370-8", "display": "LIVD mapping data set"}]},
        "date": at.isoformat(timespec="seconds"),
        "author": [{"display": publisher}],
        "title": f"The laboratory's own map; names of tests are the laboratory's. {COPYRIGHT}",
        "section": [
            section("Device Definitions", "devices", [f"DeviceDefinition/{device_id}"]),
            section(
                "Observation Definitions",
                "observation-definitions",
                [f"ObservationDefinition/{one}" for one in definitions],
            ),
            section("Concept Map", "concept-map", [f"ConceptMap/{map_id}"]),
        ],
    }


def _device(device: Device, device_id: str, definitions: Any) -> dict[str, Any]:
    kind = {"coding": [{"system": "http://hl7.org/fhir/resource-types", "code": "ObservationDefinition"}]}
    references = [
        {
            "url": f"{_LIVD}/StructureDefinition/ext-analyte",
            "valueReference": {"reference": f"ObservationDefinition/{one}"},
        }
        for one in definitions
    ]
    return _profiled("DeviceDefinition", device_id, "devicedefinition-uv-livd") | {
        "manufacturerString": device.manufacturer or device.driver,
        "modelNumber": device.model or device.driver,
        "capability": [{"extension": references, "type": kind}],
    }


def _observation(code: str, identifier: str, device: Device, device_id: str) -> dict[str, Any]:
    of = {
        "url": f"{_LIVD}/StructureDefinition/ext-device",
        "valueReference": {"reference": f"DeviceDefinition/{device_id}"},
    }
    return _profiled("ObservationDefinition", identifier, "observationdefinition-uv-livd") | {
        "extension": [of],
        "code": {"coding": [{"system": f"{DRIVER}{device.driver}", "code": code, "display": code}]},
    }


def _livd_map(lines: Sequence[MapLine], ids: Mapping[str, str], map_id: str) -> dict[str, Any]:
    targets: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        needs = [
            {"property": name, "value": value}
            for name, value in (("specimen", line.specimen_type), ("result", line.unit))
            if value
        ]
        target: dict[str, Any] = {"code": line.loinc, "display": line.test_name, "equivalence": "equivalent"}
        targets[line.code].append(target | ({"dependsOn": needs} if needs else {}))
    elements = [{"code": ids[code], "display": code, "target": found} for code, found in targets.items()]
    return _profiled("ConceptMap", map_id, "conceptmap-testcode-uv-livd") | {
        "name": "LaboraLivdMap",
        "status": "active",
        "sourceUri": "ObservationDefinition",
        "targetCanonical": f"{_LIVD}/ValueSet/loinc-livd",
        "group": [{"target": LOINC, "element": elements}],
    }


def _value_set(lines: Sequence[MapLine]) -> dict[str, Any]:
    codes = {line.loinc: line.test_name for line in lines}
    concept = [{"code": code, "display": name} for code, name in codes.items()]
    return {
        "resourceType": "ValueSet",
        "id": "loinc-livd",
        "url": f"{_LIVD}/ValueSet/loinc-livd",
        "name": "LivdLoincVS",
        "status": "active",
        "copyright": COPYRIGHT,
        "compose": {"include": [{"system": LOINC, "concept": concept}]},
    }
