"""Packed bodies: what is taken of them is bounded, and what is refused is not unpacked at all.

aiohttp reads what is left of a request that was refused, for seconds, and would unpack it, without a turn for anybody
else: a megabyte that becomes a thousand kept analyzers from their acknowledgements, and needed no token.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp.compression_utils import ZLibDecompressor

from interface.api.app import MOST_BODY_BYTES
from interface.domain.permissions import Role
from tests.api.bench import Bench, Laboratory

PACKED = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
FORM = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
MUCH = 200 << 20
PATIENT = b'{"family": "Muster"}'
GZIP = gzip.compress(PATIENT, mtime=0)  # without the time, which would be another in each process that collects tests


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(b" " * MUCH)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes aiohttp has unpacked, step by step."""
    given: list[int] = []
    unpack = ZLibDecompressor.decompress_sync

    def counting(self: ZLibDecompressor, *arguments: Any, **named: Any) -> bytes:
        made = unpack(self, *arguments, **named)
        given.append(len(made))
        return made

    monkeypatch.setattr(ZLibDecompressor, "decompress_sync", counting)
    yield given


@pytest.mark.parametrize("way", ["whole", "in chunks"])
@pytest.mark.parametrize(
    ("path", "token", "headers", "status"),
    [
        ("/oauth/token", "", FORM, 413),
        ("/api/orders", "lab1.none", PACKED, 401),
        ("/api/users", "", PACKED, 401),
        ("/api/patients", "user", PACKED, 413),
    ],
)
async def test_what_is_refused_is_not_unpacked(
    bench: Bench, laboratory: Laboratory, bomb: bytes, unpacked: list[int], path: str, token: str,
    headers: dict[str, str], status: int, way: str,
) -> None:  # fmt: skip
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(bomb), 1 << 14):
            yield bomb[at : at + (1 << 14)]

    token = await laboratory.user_token(Role.TECHNOLOGIST) if token == "user" else token
    answer = await bench.ask("POST", path, token, data=bomb if way == "whole" else chunks(), headers=headers)
    assert answer.status == status, answer.body
    assert sum(unpacked) == 0
    assert (await bench.get("/health")).status == 200


@pytest.mark.parametrize(
    ("coding", "packed", "status"),
    [
        ("gzip", GZIP, 201),
        ("GZIP", GZIP, 201),
        ("deflate", zlib.compress(PATIENT), 201),
        ("gzip", GZIP[:-1], 400),
        ("gzip", GZIP + b"x", 400),
        ("gzip", PATIENT, 400),
        ("gzip", b"", 400),
        ("identity", PATIENT, 201),
        ("br", PATIENT, 415),
        ("gzip, gzip", gzip.compress(GZIP, mtime=0), 415),
        ("gzip", gzip.compress(b" " * (MOST_BODY_BYTES + 1), mtime=0), 413),
    ],
)
async def test_what_is_packed_as_it_says_is_taken(
    bench: Bench, laboratory: Laboratory, coding: str, packed: bytes, status: int
) -> None:
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    answer = await bench.ask("POST", "/api/patients", token, data=packed, headers=headers)
    assert answer.status == status, answer.body


@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_a_request_without_a_body_may_name_a_coding(bench: Bench, laboratory: Laboratory, coding: str) -> None:
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    answer = await bench.ask("GET", "/api/orders?number=none", token, headers={"Content-Encoding": coding})
    assert answer.status == 200, answer.body
