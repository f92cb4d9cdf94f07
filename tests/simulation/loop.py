"""An event loop without clock, socket and thread: time jumps to the next timer, and what happens is decided by a seed.

A process of the simulated world can be killed at any await: nothing of it runs any more, not even its `finally`s.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from asyncio import base_events
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from interface.link.clock import LoopLimit

_T = TypeVar("_T")
EPOCH = datetime(2026, 1, 2, tzinfo=UTC)
MOST_EVENTS = 3_000_000  # of one run; more is a loop that never ends
_TICK_S = 1e-6
_MOST_FINALLYS = 64


@dataclass(eq=False, slots=True)
class Process:
    """Whose code runs. `tasks`: kept until the end, so that no `finally` of a dead one runs before.

    `burnt` is called after `fuse` steps.
    """

    name: str
    alive: bool = True
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    fuse: int = 0
    burnt: Callable[[], None] = lambda: None


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def current() -> Process | None:
    """The process whose code runs; None: the world's."""
    return _process.get()


class Deadlock(AssertionError):
    """Everybody waits for something that will never happen."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    _count = 0

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        SimTask._count += 1
        self.number = SimTask._count
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _NoSelector:
    """What the loop asks for input: there never is any, and the time that it would wait has passed."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        if timeout is None:
            raise Deadlock("everybody waits for something that will never happen")
        self.passed_s += max(timeout, 0.0)
        return []


class SimLoop(base_events.BaseEventLoop):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._clock_resolution = _TICK_S
        self.events = 0
        self.network: Any = None  # who makes servers and connections
        self.faults: list[BaseException] = []  # that nobody took
        self.set_task_factory(self._task)  # type: ignore[arg-type]
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        return self._selector.passed_s

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or AssertionError(context["message"]))

    @staticmethod
    def _task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> SimTask:
        task = SimTask(coroutine, loop=loop, **options)
        process = options["context"].get(_process) if options.get("context") else current()
        if process is not None:
            process.tasks.append(task)
            if len(process.tasks) > 256:
                process.tasks = [one for one in process.tasks if not one.done()]
        return task

    # What is called later is called for a process, and not when that is dead.

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        context = context if context is not None else copy_context()
        return super().call_soon(self._guarded, context.get(_process), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else copy_context()
        return super().call_at(when, self._guarded, context.get(_process), callback, *args, context=context)

    def _guarded(self, process: Process | None, callback: Callable[..., Any], *args: Any) -> None:
        self.events += 1
        if self.events > MOST_EVENTS:
            raise Deadlock("the simulation does not come to an end")
        if process is None:
            callback(*args)
        elif process.alive:
            callback(*args)
            if process.fuse:
                process.fuse -= 1
                if not process.fuse:
                    copy_context().run(self._burnt, process)

    @staticmethod
    def _burnt(process: Process) -> None:
        _process.set(None)
        process.burnt()

    # What a loop over sockets has.

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        return

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        return

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        return

    async def create_server(self, factory: Callable[[], Any], host: str, port: int, **options: Any) -> Any:  # type: ignore[override]
        return self.network.listen(factory, host, port, current())

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int, **options: Any) -> Any:  # type: ignore[override]
        return await self.network.connect(factory, host, port, current())

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        raise AssertionError("a thread has no place in a simulation")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncio's
        return


class SimClock:
    """`link.clock.Clock` by the loop that runs."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def utc(self) -> datetime:
        return utc()

    def timeout_at(self, when: float | None) -> asyncio.Timeout:
        return asyncio.timeout_at(when)

    def limit(self) -> LoopLimit:
        return LoopLimit()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def utc() -> datetime:
    """The world's instant."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def spawn(process: Process | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin a task of a process; what it begins is the process's too."""
    context = copy_context()
    context.run(_process.set, process)
    return asyncio.get_running_loop().create_task(work, context=context)


def bury(process: Process) -> None:
    """Close what a dead process was doing, after everything has been judged: whatever its `finally`s do is nobody's."""
    process.alive = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a `finally` would wait for
        for task in process.tasks:
            if task.done():
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            for _ in range(_MOST_FINALLYS):
                try:
                    coroutine.close()
                    break
                except BaseException:  # noqa: S112  a `finally` that awaits, or whatever it stumbles over
                    continue
        process.tasks.clear()
        gc.collect(1)


@contextmanager
def simulated() -> Iterator[SimLoop]:
    """A loop for one run. No loop is set for the thread: what a `finally` of the dead asks for, while none runs, would
    else be another's, or one that asyncio makes and nobody closes."""
    asyncio.set_event_loop(None)
    loop = SimLoop()
    SimTask._count = 0
    try:
        yield loop
    finally:
        with suppress(Exception):
            loop.close()
