"""More of what is fuzzed: what the API, the token endpoint and an administrator's files are given."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson

from interface import config
from interface.api.bodies import parse_json
from interface.api.fhir import values
from interface.api.fhir.bundle import read_transaction
from interface.domain.map_files import FileFaults
from interface.errors import ApiError, ConfigError
from interface.flow import client_keys
from interface.render.map_read import read_map

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BASE = "https://lab.example"
FILES = ("map.csv", "plan.toml", "map.json", "map.xlsx")  # the name tells a plan only
CLIENT, TOKEN_URL = "0" * 32 + "." + "1" * 32, f"{BASE}/oauth/token"


def fhir_json(data: bytes) -> None:
    """A transaction as it is posted, or (behind `?`) the value of a search: taken, or refused as the API refuses."""
    if data[:1] == b"?":
        _search_value(data[1:].decode("utf-8", "replace"))
        return
    try:
        value = parse_json(data)
        transaction = read_transaction(value, BASE)
        transaction.faults.check()
    except ApiError as error:
        assert 400 <= error.status < 500
        return
    # What JSON says is said again by what is written of it.
    assert orjson.loads(orjson.dumps(value)) == value


def _search_value(text: str) -> None:
    for read in (values.token, values.typed_token):
        with suppress(ApiError):
            read(text, "code")
    with suppress(ApiError):
        moment = values.moment(text, "date", NOW)
        assert moment.low <= moment.high
    with suppress(ApiError):
        amount = values.amount(text, "value-quantity", NOW)
        assert isinstance(amount.low, Decimal)
    with suppress(ApiError):
        values.alternatives(text)
    values.plain(text)
    values.read_id(text)


def assertions(data: bytes) -> None:
    """An OAuth assertion, whole or put together of a header, claims and a signature, and a client's JWK set."""
    kind, rest = data[:1], data[1:]
    if kind == b"{":
        with suppress(ValueError):
            document = orjson.loads(data)
            with suppress(ValueError):
                client_keys.registered(document)
            for algorithm in client_keys.ALGORITHMS:
                client_keys.find_key(document, "1", algorithm)
        return
    if kind == b".":
        header, _, claims = rest.partition(b"\n")
        text = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, claims, b"x"))
    else:
        text = rest.decode("utf-8", "replace")
    try:
        claimed = client_keys.peek(text)
    except client_keys.Refused as refused:
        assert refused.reason == "malformed"
        return
    client_keys.organization_of(claimed.client_id)
    if claimed.problem:
        assert claimed.problem in ("malformed", "algorithm")
        return
    assert claimed.algorithm in client_keys.ALGORITHMS
    claims_said = orjson.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    if not client_keys.claims_problem(claims_said, CLIENT, TOKEN_URL, NOW):
        client_keys.spent(claims_said)


def configuration(data: bytes) -> None:
    """A configuration file: settings, or every problem with its place. No file that it names is there."""
    text = data.decode("utf-8", "replace").replace("/dev", "/nowhere").replace("/proc", "/nowhere")
    try:
        config.parse(text, Path("config.toml"), {})
    except ConfigError as error:
        assert error.problems
        assert all(str(problem) for problem in error.problems)


def mappings(data: bytes) -> None:
    """A file of maps of any kind: rows, or faults with the file's name."""
    file = FILES[data[0] % len(FILES)] if data else FILES[0]
    try:
        read_map(file, data[1:])
    except FileFaults as error:
        assert error.faults
        assert all(str(fault).startswith(file) for fault in error.faults)
