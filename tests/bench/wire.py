"""`scripts/bench wire`: messages per second on one core, read and decoded, beside other readers of the same bytes.

Read: parse the message and read 11 values of each of its 25 results. HL7: OBX-1, 2, 3.1, 3.2, 3.3, 5, 6, 7, 8, 11, 14;
LIS02-A2: R-2, 3.1, 3.2, 3.4, 4, 5, 6, 7, 9, 11, 13. At least 12,000 messages/s are wanted of both. The naive split
makes lists of all fields and components and reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import hl7 as python_hl7
from hl7apy.parser import parse_message

from interface.driver import registry
from interface.wire import hl7, lis02
from tests.bench.messages import hl7_message, lis2_message
from tests.bench.record import note
from tests.bench.timing import cpu_us, rate_line

OBX = ((1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (5, 1), (6, 1), (7, 1), (8, 1), (11, 1), (14, 1))
RESULT = ((2, 1), (3, 1), (3, 2), (3, 4), (4, 1), (5, 1), (6, 1), (7, 1), (9, 1), (11, 1), (13, 1))
SLOW_ROUNDS, SLOW_CALLS = 3, 2  # hl7apy takes a tenth of a second a message


def read_hl7(block: bytes) -> list[str]:
    values: list[str] = []
    for segment in hl7.parse(block).segments:
        if segment.id == "OBX":
            value = segment.value
            values += [
                value(1), value(2), value(3), value(3, 2), value(3, 3), value(5), value(6), value(7), value(8),
                value(11), value(14),
            ]  # fmt: skip
    return values


def read_lis02(text: bytes) -> list[str]:
    values: list[str] = []
    for record in lis02.parse(text).records:
        if record.type == "R":
            value = record.component
            values += [
                value(2), value(3), value(3, 2), value(3, 4), value(4), value(5), value(6), value(7), value(9),
                value(11), value(13),
            ]  # fmt: skip
    return values


def read_python_hl7(block: bytes) -> list[str]:
    def one(segment: Any, field: int, component: int) -> str:
        repeat = segment[field][0]
        return str(repeat[component - 1]) if isinstance(repeat, list) else str(repeat)

    return [one(obx, *place) for obx in python_hl7.parse(block.decode()).segments("OBX") for place in OBX]


def read_hl7apy(block: bytes) -> list[str]:
    message = parse_message(block.decode(), find_groups=False)
    return [
        getattr(obx, f"obx_{field}").children[component - 1].to_er7()
        if field == 3
        else getattr(obx, f"obx_{field}").to_er7()
        for obx in message.obx
        for field, component in OBX
    ]


def split(text: bytes) -> list[list[list[str]]]:
    return [[field.split("^") for field in line.split("|")] for line in text.decode().split("\r")]


def main() -> None:
    """Print the table."""
    block, message = hl7_message("S1", "C1"), lis2_message("S1", "C1")
    # What an analyzer's message also has: a sub-component in SPM-2, an escape and a repetition in a note.
    marked = block + b"SPM|2|S2&LAB\rNTE|1|L|5\\T\\6~7\r"
    wanted = read_hl7(block)
    assert len(wanted) == len(read_lis02(message)) == 25 * 11
    others: tuple[tuple[str, str, Callable[[bytes], list[str]]], ...] = (
        ("P6-hl7", "python-hl7", read_python_hl7),
        ("P6-hl7apy", "hl7apy", read_hl7apy),
    )
    own = cpu_us(partial(read_hl7, block))
    print(rate_line("HL7: read", own))
    print(rate_line("HL7: read, escape and repetition in it", cpu_us(partial(read_hl7, marked))))
    print(rate_line("HL7: naive split", cpu_us(partial(split, block))))
    for target, name, read in others:
        assert read(block) == wanted, name
        few = f"few rounds: {SLOW_ROUNDS} of {SLOW_CALLS}" if read is read_hl7apy else ""
        us = cpu_us(partial(read, block), SLOW_ROUNDS, SLOW_CALLS) if few else cpu_us(partial(read, block), 5, 10)
        print(rate_line(f"HL7: {name}", us, few))
        note(target, own / us, f"{own:,.0f} us of {us:,.0f} us")
    print(rate_line("LIS02: read", cpu_us(partial(read_lis02, message))))
    print(rate_line("LIS02: naive split", cpu_us(partial(split, message))))
    for name, text in (("generic_hl7", block), ("generic_lis2", message)):
        driver = registry.load(name)
        assert sum(len(specimen.results) for specimen in registry.decode(driver, text).specimens) == 25
        print(rate_line(f"{name}: decode", cpu_us(partial(registry.decode, driver, text))))


if __name__ == "__main__":
    main()
