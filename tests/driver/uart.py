"""What a serial port hears that is set to another speed or format than the sender's: line levels, sampled."""

from __future__ import annotations

from interface.settings import LineFormat, Parity

_PIECES = 16  # a bit is looked at this finely


def levels(data: bytes, form: LineFormat, gap_bits: int = 0) -> list[int]:
    """The line's level for each bit time, idle (1) at the beginning and the end."""
    out = [1] * 12
    for value in data:
        bits = [value >> place & 1 for place in range(form.data_bits)]
        out += [0, *bits]
        if form.parity is not Parity.NONE:
            out.append(sum(bits) % 2 ^ (form.parity is Parity.ODD))
        out += [1] * (form.stop_bits + gap_bits)
    return out + [1] * 12


def heard(
    data: bytes,
    sent: LineFormat,
    read: LineFormat,
    *,
    sent_baud: int = 9600,
    read_baud: int = 9600,
    gap_bits: int = 0,
) -> bytes:
    """`data`, sent with one setting and read with another. A character without its stop bit is given all the same, and
    the missing stop bit taken for the next start bit, as a 16550 does."""
    line = levels(data, sent, gap_bits)
    step = _PIECES * sent_baud / read_baud  # of the sender's sixteenths, a reader's bit
    length = len(line) * _PIECES

    def at(place: float) -> int:
        index = int(place)
        return line[index // _PIECES] if index < length else 1

    out = bytearray()
    place = 0.0
    while place < length:
        while place < length and at(place):
            place += 1
        if place >= length:
            break
        if at(place + step / 2):  # too short for a start bit
            place += 1
            continue
        while True:
            bits = [at(place + step * (1.5 + number)) for number in range(read.data_bits)]
            out.append(sum(bit << number for number, bit in enumerate(bits)))
            stop = place + step * (1.5 + read.data_bits + (read.parity is not Parity.NONE))
            place = stop
            if at(stop):
                break
            if not any(at(stop + step * part / 4) for part in range(4 * 10)):  # held low: a break, one NUL
                while place < length and not at(place):
                    place += 1
                break
            place = stop - step / 2
    return bytes(out)
