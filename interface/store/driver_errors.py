"""Errors of the driver for PostgreSQL, and of its sockets, in Labora's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from interface.errors import LeaseLost, SchemaChanged, StoreAmbiguous, StoreError, StoreUnavailable

_REFUSED: Final = ("28", "3D000")  # authentication, no such database: waiting does not help
# Certainly rolled back: no resources (disk, memory, connections), cancelled, lock not obtained, standby, input/output,
# and for another transaction's sake, which says nothing against the work either. Not all of class 40: 40003 is the one
# after which nobody knows.
_ROLLED_BACK: Final = ("53", "57014", "55P03", "25006", "58", "40001", "40P01", *_REFUSED)
# A type, function, column or table of ours that is not there, or that is another: what is sent names what this program
# knows, so that no message is to blame. A migration changed it, or is about to.
_CHANGED: Final = ("42703", "42704", "42804", "42883", "42P01")
# So with what the server's own caches no longer find, which has no code of its own (and is never translated).
_UNFOUND, _CACHES = "XX000", ("cache lookup failed", "could not open relation")
ENDED: Final = "LB001"  # `lab.refuse_ended`
# The driver has no class for these: the connection, or the pool, went away before the call.
_GONE: Final = ("connection is closed", "connection was closed", "pool is clos", "released back to the pool")
_LOST: Final = ("08", "57P")  # the session ended; what it was doing may or may not have been done


# InternalClientError is what the driver's own state machine makes of a session that ends in mid-answer.
DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def translate(error: BaseException, *, committing: bool = False) -> StoreError | None:
    """A driver's or socket's error as a StoreError; None for what is neither (a constraint, a programming error).

    `committing`: the error came from a COMMIT or from a statement that is its own transaction, so that a lost
    connection leaves it unknown whether the rows are there. Before that, a lost connection certainly stored nothing.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, TimeoutError):  # before OSError, whose subclass it is
        return StoreAmbiguous("the database did not answer in time")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == ENDED:
            return LeaseLost("another daemon has taken this one's place")
        if state.startswith(_LOST):
            return _lost(committing)
        if state.startswith(_ROLLED_BACK):
            return StoreUnavailable(f"the database refused the work ({type(error).__name__}, {state})")
        if _changed(error, state):
            return SchemaChanged(f"the schema is not the one that is known here: {error.args[0]}")
        return None
    if isinstance(error, OSError):
        return _lost(committing)
    if isinstance(error, asyncpg.InternalClientError):
        return _lost(committing)
    if isinstance(error, asyncpg.InterfaceError) and any(each in str(error) for each in _GONE):
        return _lost(committing)
    return None


def _changed(error: asyncpg.PostgresError, state: str) -> bool:
    """Whether it is because something of the schema is not what it was when the connection came to know it."""
    if state == _UNFOUND:
        return str(error).startswith(_CACHES)
    return state in _CHANGED or isinstance(error, asyncpg.InvalidCachedStatementError)


def _lost(committing: bool) -> StoreError:
    if committing:
        return StoreAmbiguous("the connection to the database was lost during a commit")
    return StoreUnavailable("the database cannot be reached")


@contextmanager
def store_errors(*, committing: bool = False) -> Iterator[None]:
    """Raise driver errors of the block as StoreError (see `translate`); everything else passes unchanged."""
    try:
        yield
    except DRIVER_ERRORS as error:
        translated = translate(error, committing=committing)
        if translated is None:
            raise
        raise translated from error
