"""Passwords as argon2id digests. Each takes about a tenth of a second and 64 MiB, so only two are computed at once."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from interface.errors import ApiError

SHORTEST_CHARACTERS, LONGEST_BYTES = 12, 1024  # NIST SP 800-63B 5.1.1.2: length counts, composition rules do not
_AT_ONCE, _MOST_WAITING = 2, 32
_T = TypeVar("_T")

_hasher = PasswordHasher()  # RFC 9106 4, second recommendation: argon2id, t=3, 64 MiB
_threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
_computing = 0  # under way or waiting for a thread


async def digest(password: str) -> str:
    """The digest to store. Raises ApiError 422 when the password is too short or too long, 429 when too many wait."""
    if len(password) < SHORTEST_CHARACTERS or len(password.encode()) > LONGEST_BYTES:
        text = f"a password has at least {SHORTEST_CHARACTERS} characters and at most {LONGEST_BYTES} bytes"
        raise ApiError(422, "value", text)
    return await _compute(_hasher.hash, password)


async def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the stored one. None (no such user) costs the same and is never true."""
    return await _compute(_verify, stored, password)


def _verify(stored: str | None, password: str) -> bool:
    decoy = _decoy()
    if len(password.encode(errors="replace")) > LONGEST_BYTES:
        password = ""
    try:
        return _hasher.verify(stored or decoy, password.encode(errors="replace")) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _decoy() -> str:
    """A digest that no password has: salt and hash are invented. To check one against it costs as much as any other
    check; it costs nothing to make, which each command that asks for a password would do."""
    salt, invented = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (_hasher.salt_len, _hasher.hash_len)
    )
    cost = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${cost}${salt}${invented}"


async def _compute(function: Callable[..., _T], *arguments: object) -> _T:
    global _computing
    if _computing >= _MOST_WAITING:
        raise ApiError(429, "throttled", "too many logins at the same time; try again in a moment")
    _computing += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)
    finally:
        _computing -= 1
