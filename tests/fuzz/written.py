"""Inputs that we wrote, for what no driver's vector shows: FHIR, assertions, configuration, files of maps."""

from __future__ import annotations

import orjson

from tests.api.signing import ec_key, public, rsa_key
from tests.render.test_map_read import WHOLE

_PATIENT, _TUBE = "urn:uuid:0190a7c0-0000-7000-8000-000000000001", "urn:uuid:0190a7c0-0000-7000-8000-000000000002"
_RESOURCES: tuple[dict[str, object], ...] = (
    {"resourceType": "Patient", "identifier": [{"system": "urn:hospital", "value": "M-1"}],
     "name": [{"family": "Muster", "given": ["Eva"]}], "gender": "female", "birthDate": "1980-05-01"},
    {"resourceType": "Specimen", "accessionIdentifier": {"value": "B-1"}, "subject": {"reference": _PATIENT},
     "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0487", "code": "BLD"}]},
     "collection": {"collectedDateTime": "2026-01-02T03:04:05+01:00"}},
    {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "stat",
     "identifier": [{"type": {"coding": [{"code": "PLAC"}]}, "system": "urn:w", "value": "7"}],
     "requisition": {"system": "urn:ward", "value": "PL-1"}, "subject": {"reference": _PATIENT},
     "code": {"coding": [{"system": "http://loinc.org", "code": "777-3"}]}, "specimen": [{"reference": _TUBE}],
     "authoredOn": "2026-01-02T03:00:00Z", "reasonCode": [{"text": "pallor"}], "note": [{"text": "n"}],
     "contained": [{"resourceType": "Practitioner", "id": "p", "name": [{"family": "A"}]}],
     "requester": {"reference": "#p", "display": "Dr A"}},
)  # fmt: skip
_URLS = (_PATIENT, _TUBE, "")


def _bundle(*changed: dict[str, object]) -> bytes:
    entries = [
        {"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
        for url, resource in zip(_URLS, changed or _RESOURCES, strict=True)
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


_SEARCHES = (b"ge2026-01-02T03:04:05.678+01:00", b"http://loinc.org|2345-7,|final", b"ap5.40e-3|http://u|mg", b"a\\,b")
_HEADER = b'{"alg":"ES384","kid":"1","typ":"JWT"}'
_CLAIMS = orjson.dumps(
    {"iss": "0" * 32 + "." + "1" * 32, "sub": "0" * 32 + "." + "1" * 32, "aud": "https://lab.example/oauth/token",
     "exp": 1767323285, "nbf": 1767323000, "jti": "x"}
)  # fmt: skip
_CONFIGURATION = b"""state_dir = "/nowhere/state"
driver_path = ["/nowhere/drivers"]
[database]
url = "postgresql://labora@localhost/lab?sslmode=require"
[api]
listen = "127.0.0.1:0"
behind_proxy = true
trusted_proxies = ["10.0.0.0/8"]
[limits]
commit_wait_s = 5
[[link]]
id = "hema-1"
organization = "main"
driver = "sysmex_xn"
transport = { type = "serial", port = "/nowhere/ttyS0", baud = 9600, format = "8N1" }
leniencies = ["no_checksum"]
barcode = { strip_prefix = "A", pattern = "(?P<id>[0-9]+)", pad = 8 }
timezone = "Asia/Jakarta"
[[link]]
id = "his"
organization = "main"
role = "hospital"
driver = "generic_hl7"
transport = { type = "mllp-listen", listen = "127.0.0.1:4002" }
allow = ["10.1.2.0/24"]
[alerts]
gather_s = 10
[[alerts.channel]]
id = "mail"
type = "smtp"
server = "127.0.0.1:25"
sender = "lab@example.org"
[backup]
keep_days = 30
[retention]
frames_months = 24
[standby]
enabled = true
"""


def written(target: str) -> list[bytes]:
    """Inputs for one of these targets; none for another."""
    match target:
        case "fhir":
            bare: list[dict[str, object]] = [dict(resource) for resource in _RESOURCES]
            bare[1] = {"resourceType": "Specimen", "modifierExtension": [{"url": "u"}]}
            return [
                _bundle(),
                _bundle(*bare),
                b'{"a": [1, 2.5e3, null, "\\u00fc"]}',
                *(b"?" + one for one in _SEARCHES),
            ]
        case "oauth":
            keys = {"keys": [public(ec_key(), "1"), public(rsa_key(), "2", alg="RS384", use="sig")]}
            return [b"." + _HEADER + b"\n" + _CLAIMS, b"-eyJhbGciOiJFUzM4NCJ9.e30.eA", orjson.dumps(keys)]
        case "configuration":
            parts = _CONFIGURATION.split(b"[[link]]")
            return [_CONFIGURATION, parts[0], b"[[link]]" + parts[1], b"[[link]]" + parts[2]]
        case "mappings":
            return [b"%c" % (1 if name.endswith("toml") else 0) + data for name, data in WHOLE.items()]
    return []
