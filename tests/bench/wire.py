"""`scripts/bench wire`: CPU per message to read and to decode it, beside a naive split of the same bytes."""

from __future__ import annotations

from interface.driver import registry
from interface.wire import hl7, lis02
from tests.bench.messages import hl7_message, lis2_message
from tests.bench.timing import cpu_us, line


def _split(text: bytes, record: str, component: str) -> list[list[list[str]]]:
    return [[each.split(component) for each in one.split("|")] for one in text.decode().split(record)]


def main() -> None:
    """Print the table."""
    block, message = hl7_message("S1", "C1"), lis2_message("S1", "C1")
    for name, text, read in (
        ("generic_hl7", block, lambda: hl7.parse(block)),
        ("generic_lis2", message, lambda: lis02.parse(message)),
    ):
        driver = registry.load(name)
        decoded = registry.decode(driver, text)
        assert sum(len(specimen.results) for specimen in decoded.specimens) == 25
        least = cpu_us(lambda text=text: _split(text, "\r", "^"))  # type: ignore[misc]
        print(line(f"{name}: naive split", least, "us", least))
        print(line(f"{name}: read", cpu_us(read), "us", least))
        decode = cpu_us(lambda driver=driver, text=text: registry.decode(driver, text))  # type: ignore[misc]
        print(line(f"{name}: decode", decode, "us", least))


if __name__ == "__main__":
    main()
