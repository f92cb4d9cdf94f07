"""`scripts/bench profile`: where a daemon that takes messages and decides them spends its time: docs/profile.svg.

As `scripts/bench flow`, with py-spy (from PyPI; it has to be root) beside it from the first message to the last
decision, looking two hundred times a second at what the daemon does, compiled code included. Drawn are our own
functions, what they have asyncpg do, and what each spends in C libraries and the system; the machinery between them is
left out, and so are threads and a loop that wait. `--svg FILE`: another file than docs/profile.svg.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.flame import flame_graph
from tests.bench.flow import Bench, Drained
from tests.bench.yardstick import ROOT, NoYardstick, Yardstick, say, scratch_folder, stopped_by_signal

SVG = ROOT / "docs" / "profile.svg"
PER_S, SHOWN = 200, 15
_WAITING = re.compile("epoll_p?wait|PyThread_acquire_lock|futex")
_COMPILED = re.compile(r"CPyDef_(\w+?)_{3}(\w+) \(labora_rooms")
_OURS = re.compile(r"([\w.<>]+) \(interface/(?!cli/|daemon\.py)([\w/]+)\.py")
_LEAVES = {"libc": "C library", "python3": "Python", "labora_rooms": "compiled code"}


def _name(frame: str) -> str:
    """Of a frame what it is called where it is drawn; "" where it is not."""
    if found := _COMPILED.match(frame):
        room, function = found.groups()
        return f"{room}.{function.removesuffix('_gen').replace('___', '.').lstrip('_')}"
    if found := _OURS.match(frame):
        return f"{found[2].rpartition('/')[2]}.{found[1]}"
    return "asyncpg" if "asyncpg/" in frame or "(protocol.c" in frame else ""


def _leaf(frame: str) -> str:
    """What the innermost frame is where it is not drawn itself."""
    function, _, place = frame.partition(" (")
    if "libc" in place and not function.startswith("0x"):
        return f"{function} (system)"
    return next((name for part, name in _LEAVES.items() if part in place), "Python")


def merged(raw: str) -> Counter[tuple[str, ...]]:
    """Samples by what is drawn of a stack, outermost first, of py-spy's raw format."""
    stacks = Counter[tuple[str, ...]]()
    for line in raw.splitlines():
        text, _, count = line.rpartition(" ")
        frames = text.split(";")
        if any(_WAITING.search(frame) for frame in frames[-4:]):
            continue
        names = [*map(_name, frames), "" if _name(frames[-1]) else _leaf(frames[-1])]
        drawn = [name for at, name in enumerate(names) if name and name not in names[at - 1 : at]]
        stacks[tuple(drawn)] += int(count)
    return stacks


@contextmanager
def recorded(pid: int, to: Path) -> Iterator[None]:
    """What a process does meanwhile, in py-spy's raw format."""
    program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise NoYardstick("there is no py-spy: pip install py-spy")
    command = [program, "record", "--native", "--pid", str(pid), "--rate", str(PER_S), "--format", "raw"]
    process = subprocess.Popen([*command, "--duration", "unlimited", "--output", str(to)], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


class Profiled(Bench):
    """Decides with py-spy beside it. `raw`: where that writes to; `cpu_s`: of the daemon and of PostgreSQL."""

    raw: Path
    cpu_s: tuple[float, ...] = ()

    async def _drain(self, url: str, servers: Sequence[int], port: int, barcodes: Sequence[str]) -> Drained:
        before = [self._yardstick.cpu([pid]) for pid in servers]
        with recorded(servers[0], self.raw):
            found = await super()._drain(url, servers, port, barcodes)
        self.cpu_s = tuple(self._yardstick.cpu([pid]) - spent for pid, spent in zip(servers, before, strict=True))
        return found


def shares(stacks: Counter[tuple[str, ...]]) -> Iterator[tuple[str, float, float]]:
    """Of each function that is drawn its share of all samples, with what it calls and by itself; the greatest first."""
    total = stacks.total()
    whole, own = Counter[str](), Counter[str]()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for name in set(stack):
            whole[name] += count
    for name, count in whole.most_common():
        yield name, count / total, own[name] / total


def main() -> None:
    """Print the greatest shares and draw the graph."""
    parser = argparse.ArgumentParser(prog="scripts/bench profile", description=__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--svg", type=Path, default=SVG)
    options = parser.parse_args()
    stopped_by_signal()
    try:
        yardstick = Yardstick()
        with yardstick.postgres() as postgres, scratch_folder() as folder:
            bench = Profiled(yardstick, postgres, options.messages)
            bench.raw = folder / "raw"
            found = bench.drained()
            stacks = merged(bench.raw.read_text(encoding="utf-8"))
    except NoYardstick as error:
        sys.exit(str(error))
    daemon_ms, postgres_ms = (spent * 1e3 / options.messages for spent in bench.cpu_s)
    say(f"{found.decided} messages decided, {found.per_s:,.0f}/s, {daemon_ms:.2f} ms CPU of the daemon and"
        f" {postgres_ms:.2f} ms of PostgreSQL each; {stacks.total():,} samples")  # fmt: skip
    for name, whole, own in list(shares(stacks))[: 3 * SHOWN]:
        say(f"{whole:>6.1%} {own:>6.1%}  {name}")
    options.svg.write_text(flame_graph(stacks, f"A daemon deciding, {stacks.total():,} samples"), encoding="utf-8")


if __name__ == "__main__":
    main()
