"""What the fuzzer begins with: what it kept before (`corpus/`), what we wrote, the drivers' vectors, and recorded
messages where there are some. Of those nothing is ever kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.capture import CaptureError, read_capture
from interface.errors import LinkFrameError
from tests import corpus
from tests.fuzz.written import written

MOST_BYTES = 2048  # long inputs make few tries
KEPT = Path(__file__).parent / "corpus"
WRITTEN = frozenset({"fhir", "oauth", "configuration", "mappings"})  # of which no analyzer shows anything


def captures() -> Iterator[bytes]:
    """Captures as files hold them."""
    for driver in registry.find_all():
        for vector in registry.vectors(driver.id):
            yield vector.trace.read_bytes()
    if corpus.CORPUS.is_dir():
        for file in corpus.files("astm", "hl7", "other"):
            yield corpus.read(file)


def kept(target: str) -> list[bytes]:
    """What was found from our own inputs to reach something new, or to break a promise once: a literal on each line."""
    path = KEPT / f"{target}.txt"
    lines = path.read_text("ascii").splitlines() if path.is_file() else ()
    return [ast.literal_eval(line) for line in lines if not line.startswith("#")]


def seeds(target: str) -> list[bytes]:
    """Inputs for one target, in the form that it takes."""
    own = [*kept(target), *written(target)]
    return own if target in WRITTEN else own + _sent(target)


def _sent(target: str) -> list[bytes]:
    """What analyzers send, for one target."""
    found: list[bytes] = []
    for data in captures():
        if target in ("trace", "capture", "declared"):
            found.append(data)
            continue
        try:
            messages = read_capture(data)
        except (CaptureError, LinkFrameError):
            continue
        wanted = Protocol.HL7 if target in ("hl7", "mllp") else Protocol.LIS2
        texts = [message.text for message in messages if message.protocol is wanted]
        if target == "mllp":
            found += [b"\xff" + b"".join(b"\x0b%s\x1c\r" % text for text in texts)] if texts else []
        elif target == "lis01":
            found += [b"\x00\x00\x00" + data] if texts and not data.startswith(b"#") else []
            found += [b"\x00\x00\x00\xffS" + text + b"\xff\x06\xff\x06\xff\x15\xffT" for text in texts]
        else:
            found += texts
            found += [data] if target == "hl7" and len(texts) > 1 else []  # a batch
    return [seed[:MOST_BYTES] for seed in found]


def write_seeds(target: str, folder: Path) -> int:
    """A file for each seed, as libFuzzer reads them; how many there are."""
    made = seeds(target)
    for at, seed in enumerate(made):
        (folder / f"seed-{at}").write_bytes(seed)
    return len(made)
