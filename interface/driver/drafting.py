"""A `driver.toml` drafted from a capture: what the bytes show is written down, the rest is left with a comment. Pure.

Nothing is guessed: where two places could be meant, neither is taken and both are named. What was seen, and is only
likely to be always so, stands in `unverified`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from interface.domain.model import DecodedMessage, Observed, Protocol, SpecimenRole, ValueKind
from interface.driver.diagnosis import Diagnosis, Framing
from interface.driver.leaves import Lines, line_id, lines_of, raw, unescaped
from interface.driver.manifest import Driver
from interface.driver.parse import parse_manifest
from interface.driver.registry import decode
from interface.driver.rules import FieldPath
from interface.errors import DriverError, RecordError, SegmentError

_PROTOCOLS = {
    Framing.LIS01: Protocol.LIS2, Framing.BARE_RECORDS: Protocol.LIS2, Framing.MLLP: Protocol.HL7,
    Framing.BARE_HL7: Protocol.HL7, Framing.LIS01_HL7: Protocol.HL7,
}  # fmt: skip
_SENDERS = {
    Protocol.LIS2: (FieldPath("H", 5, 1), FieldPath("H", 5, 2)),
    Protocol.HL7: (FieldPath("MSH", 3, 1), FieldPath("MSH", 4, 1)),
}
# Where specimen ids have been seen to stand, beside the standards' own places.
_ID_PLACES = {
    Protocol.LIS2: [FieldPath(record, number, part) for record in "O" for number in (3, 4) for part in range(1, 9)]
    + [FieldPath("P", number, 1) for number in (3, 4, 5)],
    Protocol.HL7: [
        FieldPath("SPM", 2, 1, 1), FieldPath("SPM", 2, 2, 1), FieldPath("SAC", 3, 1, 1), FieldPath("OBR", 2, 1),
        FieldPath("OBR", 3, 1), FieldPath("PID", 2, 1), FieldPath("PID", 3, 1), FieldPath("PID", 4, 1),
    ],
}  # fmt: skip
_ASKED_PLACES = {
    Protocol.LIS2: [FieldPath("Q", 3, part) for part in range(1, 9)],
    Protocol.HL7: [FieldPath("QPD", 3, 1, 1), FieldPath("QRD", 8, 1), FieldPath("ORC", 3, 1), FieldPath("ORC", 2, 1)],
}
_QUERY_TYPES = ("QBP", "QRY", "ORM")  # HL7: an analyzer sends these to ask
# Who marks a control where the standards have it: LIS02-A2 O-12 and H-12, HL7 MSH-11.
_CONTROL_MARKS = {
    Protocol.LIS2: [(FieldPath("O", 12), "Q"), (FieldPath("H", 12), "Q")],
    Protocol.HL7: [(FieldPath("MSH", 11, 1), "Q")],
}
_LEAST_ID = 4  # characters of what is taken for an id by itself: shorter are sequence numbers and positions


@dataclass(frozen=True, slots=True)
class Drafted:
    """`text`: the manifest; `driver`: what it says; `open_points`: what a person has to find out, in words."""

    text: str
    driver: Driver
    open_points: tuple[str, ...]


def draft(
    driver_id: str, messages: Sequence[bytes], found: Diagnosis, generic: Driver, specimen_id: str = "", day: str = ""
) -> Drafted:
    """A manifest for the analyzer that sent `messages`, of whose bytes `found` is the diagnosis.

    `generic`: the protocol's generic driver, for what the standard says of flags and statuses. `specimen_id`: of one of
    the tubes, as its label has it. `day`: of the capture, for the evidence. Raises DriverError where the capture is of
    no protocol that a manifest can be drafted for, or the id is not in it.
    """
    protocol = _PROTOCOLS.get(found.framing)
    if protocol is None:
        raise DriverError(
            f"the capture is {found.framing}: neither LIS2 nor HL7. A framing and records of its own are written by "
            "hand, see docs/framing.md; `labora link doctor FILE` tells what the bytes are"
        )
    work = _Draft(driver_id, protocol, messages, found, generic, specimen_id, day)
    text = work.written()
    return Drafted(text, parse_manifest(text, "driver.toml", driver_id), tuple(work.open_points))


@dataclass(slots=True)
class _Draft:
    driver_id: str
    protocol: Protocol
    messages: Sequence[bytes]
    found: Diagnosis
    generic: Driver
    specimen_id: str
    day: str
    open_points: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    _read: list[Lines] = field(init=False)

    def __post_init__(self) -> None:
        self._read = []
        for text in self.messages:
            try:
                self._read.append(lines_of(self.protocol, text, self._encoding()))
            except (RecordError, SegmentError, UnicodeError, LookupError):
                continue
        if not self._read:
            raise DriverError("no message of the capture can be read")

    def _encoding(self) -> str:
        return (self.found.text.best or self.found.text.declared) if self.found.text else ""

    def leaves(self, path: FieldPath) -> list[str]:
        """What stands at a path in each record of its kind, unescaped and stripped."""
        return [
            unescaped(raw(line, path, one.marks), one.marks).strip()
            for one in self._read
            for line in one.lines
            if line_id(line, self.protocol) == path.record
        ]

    # ---- the parts of the file ---------------------------------------------------------------------------------------

    def written(self) -> str:
        match, paths, query = self._match(), self._paths(), self._query()
        probe = self._decoded(paths)
        results = [one for message in probe for specimen in message.specimens for one in specimen.results]
        tables = [
            *match, "", *self._framing(), *paths, "", *query, *self._roles(probe), *self._values(results),
            *self._flags(results), *self._statuses(results), *self._comments(), *self._codes(results),
        ]  # fmt: skip
        return "\n".join([*self._head(probe, results), "", *tables]).rstrip() + "\n"

    def _head(self, probe: Sequence[DecodedMessage], results: Sequence[Observed]) -> list[str]:
        sender = next((one.sender for one in probe if one.sender), "")
        counts = f"messages: {len(self._read)}, results: {len(results)}"
        what = f"capture{' of ' + self.day if self.day else ''}: {counts}"
        lines = [
            "# Drafted from a capture by `labora driver new`. Read it against the instrument's manual: what stands in",
            "# `unverified` was seen and not read anywhere, a line with TODO is for you; docs/drivers.md says how.",
            "[driver]",
            f"id = {_quoted(self.driver_id)}",
            'revision = "1"',
            f"protocol = {_quoted(self.protocol.value)}",
            'tier = "captured"',
            f"title = {_quoted(_title(sender) or self.driver_id)}",
            'vendor = ""  # TODO',
            'model = ""  # TODO',
            'document = ""  # TODO: the vendor\'s host interface document and its revision',
            f"evidence = [{_quoted(what)}]",
        ]
        if self.protocol is Protocol.HL7 or self._encoding():
            lines.append(f"encoding = {_quoted(self._encoding() or 'utf-8')}")
        if any(line.startswith("# TODO: nothing in the header") for line in self._match()):
            lines.append("named_only = true")
        lines.append('# lacks = ["query", "rerun", "retransmission", "qc"]  # TODO: what the instrument has not')
        lines.append("unverified = [")
        lines += [f"  {_quoted(one)}," for one in dict.fromkeys(self.unverified)]
        lines.append("]")
        return lines

    def _match(self) -> list[str]:
        for path in _SENDERS[self.protocol]:
            seen = {one for one in self.leaves(path) if one}
            if len(seen) == 1:
                word = seen.pop()
                self.unverified.append(f"the analyzer always says {word!r} in {path}")
                return ["[match]", f"{_quoted(str(path))} = {_literal('^' + re.escape(word) + '$')}"]
            if seen:
                self._open(f"{path} says {', '.join(sorted(seen))}: which of them is this analyzer")
                break
        else:
            self._open("the header names nobody: a link has to name this driver")
        return ["[match]", "# TODO: nothing in the header tells this analyzer from others", '# "H.5.1" = \'^...$\'',
                f"{_quoted(self._whole())} = '^'"]  # fmt: skip

    def _whole(self) -> str:
        return "H" if self.protocol is Protocol.LIS2 else "MSH"

    def _framing(self) -> list[str]:
        proof = self.found.proof
        lines = []
        if self.found.framing is Framing.LIS01_HL7:
            lines.append('link = "lis01"')
        if proof is not None and proof.needed:
            names = ", ".join(_quoted(str(one)) for one in sorted(proof.needed))
            lines.append(f"leniencies = [{names}]  # proven: with no fewer does the receiver take what was captured")
        if proof is not None and not proof.proven and proof.obstacles:
            self._open(f"the receiver does not take the capture as it is: {'; '.join(proof.obstacles)}")
            lines += [f"# TODO: {one}" for one in proof.obstacles]
        return ["[framing]", *lines, ""] if lines else []

    def _paths(self) -> list[str]:
        lines = ["[paths]", *self._id_path(), *self._code_path()]
        return lines

    def _id_path(self) -> list[str]:
        places = [path for path in _ID_PLACES[self.protocol] if any(self.leaves(path))]
        if self.specimen_id:
            exact = [path for path in places if self.specimen_id in self.leaves(path)]
            within = [path for path in places if any(self.specimen_id in leaf for leaf in self.leaves(path))]
            if not exact and not within:
                raise DriverError(f"{self.specimen_id!r} is in no place of the capture where a specimen id could stand")
            if exact:
                if len(exact) > 1:
                    self.unverified.append(f"the specimen id stands in {_and(exact)}: the first counts")
                return [f"specimen_id = {_path_list(exact)}"]
            self._open(f"the specimen id is part of {_and(within)}: [specimen_id] says how to take it out")
            return [f"specimen_id = {_path_list(within)}  # TODO: a part of it, see [specimen_id]"]
        if self.protocol is Protocol.HL7 and any(path.record in ("SPM", "SAC") for path in places):
            return []  # where the standard has it
        if self.protocol is Protocol.LIS2:
            places = [path for path in places if path.record == "O"]
        else:
            places = [path for path in places if path.record == "OBR"]
        likely = [path for path in places if all(len(leaf) >= _LEAST_ID for leaf in self.leaves(path) if leaf)]
        if len(likely) == 1:
            self.unverified.append(f"the specimen id stands in {likely[0]}, the only place with anything like one")
            return [f"specimen_id = {_path_list(likely)}"]
        shown = [f"{path} ({_shape(next(leaf for leaf in self.leaves(path) if leaf))})" for path in places]
        self._open(f"where the specimen id stands: {', '.join(shown) or 'no place has anything like one'}")
        return ["# TODO: which of these is the specimen id? Run it again with --specimen, the id on the tube's label.",
                *(f"#   {one}" for one in shown), "specimen_id = []"]  # fmt: skip

    def _code_path(self) -> list[str]:
        record, number = ("R", 3) if self.protocol is Protocol.LIS2 else ("OBX", 3)
        parts = {part: self.leaves(FieldPath(record, number, part)) for part in range(1, 9)}
        full = [part for part, leaves in parts.items() if leaves and all(leaves)]
        varied = [part for part in full if len(set(parts[part])) > 1]
        usual = 4 if self.protocol is Protocol.LIS2 else 1
        lines = []
        if usual in full and (usual in varied or len(parts[usual]) == 1):
            chosen = usual
        elif len(varied) == 1 or (not varied and len(full) == 1):
            chosen = (varied or full)[0]
            lines.append(f"code = {_quoted(str(FieldPath(record, number, chosen)))}")
        elif not parts[1]:
            return []
        else:
            named = ", ".join(
                f"{FieldPath(record, number, part)} ({_shape(parts[part][0])})" for part in varied or full
            )
            self._open(f"which part of {record}-{number} is the test code: {named or 'none is always there'}")
            return [f"# TODO: which is the test code? {named}"]
        self.unverified.append(f"the test code is component {chosen} of {record}-{number}")
        if chosen == 2 or not any(parts[2]):
            lines.append(self._name_path(record, number, {part: parts[part] for part in varied if part != chosen}))
        return lines

    def _name_path(self, record: str, number: int, others: Mapping[int, list[str]]) -> str:
        """A part that always holds words: names decide nothing, so the only such part is taken."""
        worded = [part for part, leaves in others.items() if all(re.search("[A-Za-z]{2}", leaf) for leaf in leaves)]
        if len(worded) != 1:
            return "name = []"
        path = FieldPath(record, number, worded[0])
        self.unverified.append(f"the vendor's name of a test is {path}")
        return f"name = {_quoted(str(path))}"

    def _query(self) -> list[str]:
        asked = [path for path in _ASKED_PLACES[self.protocol] if any(self.leaves(path))]
        types: list[str] = []
        if self.protocol is Protocol.HL7:
            codes, events = (self.leaves(FieldPath("MSH", 9, part)) for part in (1, 2))
            kinds = ["^".join(filter(None, pair)) for pair in zip(codes, events, strict=True)]
            types = sorted({kind for kind in kinds if kind.startswith(_QUERY_TYPES)})
        if not asked or (self.protocol is Protocol.HL7 and not types):
            self._open("no query was captured: whether and how the analyzer asks for work")
            return [
                '# TODO: no query was captured. If it asks for work, [query] says how; else lacks = ["query"] above.',
                "",
            ]
        lines = ["[query]"]
        if types:
            lines.append(f"message_types = [{', '.join(map(_quoted, types))}]")
        exact = [path for path in asked if self.specimen_id and self.specimen_id in self.leaves(path)]
        likely = exact or [path for path in asked if all(len(leaf) >= _LEAST_ID for leaf in self.leaves(path) if leaf)]
        if len(likely) == 1 or exact:
            self.unverified.append(f"a query names its specimen in {likely[0]}")
            return [*lines, f"specimen_id = {_quoted(str(likely[0]))}", "patient_id = []", ""]
        self._open(f"where a query names its specimen: {_and(asked)}")
        return [*lines, f"# TODO: specimen_id is one of {_and(asked)}", ""]

    def _roles(self, probe: Sequence[DecodedMessage]) -> list[str]:
        marks = [(path, word) for path, word in _CONTROL_MARKS[self.protocol] if word in self.leaves(path)]
        lines: list[str] = []
        for path, word in marks:
            self.unverified.append(f"{word} in {path} means a control")
            lines += ["[[role]]", 'role = "qc"', f"path = {_quoted(str(path))}", f"equals = {_quoted(word)}", ""]
        known = any(one.role is SpecimenRole.QC for message in probe for one in message.specimens)
        if not marks and not known:
            self._open("no control was captured: how the analyzer marks one")
            lines += ["# TODO: no control was captured. [[role]] says how one is known.",
                      '# [[role]]', '# role = "qc"', '# path = "specimen_id"', "# pattern = '^QC'", ""]  # fmt: skip
        return lines

    def _values(self, results: Sequence[Observed]) -> list[str]:
        odd = sorted({one.raw_value for one in results if one.value.kind is ValueKind.FAILED})
        commas = any(re.fullmatch(r"[<>]?\s*[0-9]+,[0-9]+", one.raw_value.strip()) for one in results)
        lines = []
        if commas:
            self._open("values have a comma: whether it is the decimal mark or stands between thousands")
            lines.append('# decimal_comma = true  # TODO: or thousands = ","')
        if odd:
            self.unverified.append(f"values that say that a run failed: {', '.join(odd)}")
        return ["[value]", *lines, ""] if lines else []

    def _flags(self, results: Sequence[Observed]) -> list[str]:
        seen = Counter(flag for one in results for flag in one.flags)
        lines = ["[flags]", '"" = ""']
        for flag, count in sorted(seen.items()):
            meaning = self.generic.flags.get(flag)
            if meaning is None:
                self._open(f"what the flag {flag!r} means: until the table says it, it holds the result")
                lines.append(f'# {_quoted(flag)} = ""  # TODO: seen {count} times, and holds until it means something')
            elif flag:
                self.unverified.append(f"the flag {flag!r} means what the standard says")
                lines.append(f"{_quoted(flag)} = {_quoted(meaning)}")
        return [*lines, ""]

    def _statuses(self, results: Sequence[Observed]) -> list[str]:
        seen = Counter(one.status for one in results)
        lines = ["[status]"]
        for status, count in sorted(seen.items()):
            meaning = self.generic.statuses.get(status) if status else None
            if meaning is None:
                shown = f"the status {status!r}" if status else "a result without a status"
                self._open(f"what {shown} means: until the table says it, it holds the result")
                lines.append(
                    f'# {_quoted(status)} = "ok"  # TODO: seen {count} times, and holds until it means something'
                )
            else:
                self.unverified.append(f"the status {status!r} means what the standard says")
                lines.append(f"{_quoted(status)} = {_quoted(meaning.value)}")
        return [*lines, ""]

    def _comments(self) -> list[str]:
        path = FieldPath("C", 4) if self.protocol is Protocol.LIS2 else FieldPath("NTE", 3)
        count = len([one for one in self.leaves(path) if one])
        if not count:
            return []
        self._open(f"whether comments below orders and results ({path}, {count} seen) are data alarms, see [alarm]")
        return [
            f"# TODO: {count} comments ({path}) were seen. If they are data alarms, [alarm] says which need no hold.",
            "",
        ]

    def _codes(self, results: Sequence[Observed]) -> list[str]:
        seen: dict[str, Observed] = {}
        for one in results:
            if one.code:
                seen.setdefault(one.code, one)
        if not seen:
            self._open("no result was captured: which codes the analyzer sends")
            return []
        lines = ["[[codes]]", 'source = "the capture: seen, not read in a document"', "[codes.list]"]
        for code, one in seen.items():
            kind = _kind([other for other in results if other.code == code])
            entry = f"name = {_quoted(one.name or code)}"
            entry += f", unit = {_quoted(one.unit)}" if one.unit else ""
            entry += f", kind = {_quoted(kind)}" if kind else ""
            lines.append(f"{_quoted(code)} = {{{entry}}}")
        self.unverified.append(f"{len(seen)} codes with their units, as captured; there will be more")
        return lines

    # ---- reading with what has been found so far ---------------------------------------------------------------------

    def _decoded(self, paths: Sequence[str]) -> list[DecodedMessage]:
        """The messages by a driver that has the paths and nothing else."""
        text = "\n".join(
            [
                "[driver]", f"id = {_quoted(self.driver_id)}", 'revision = "0"', 'tier = "captured"', 'title = "draft"',
                f"protocol = {_quoted(self.protocol.value)}", 'evidence = ["-"]',
                f"encoding = {_quoted(self._encoding())}",
                "[match]", f"{_quoted(self._whole())} = '^'", *paths,
            ]
        )  # fmt: skip
        probe = parse_manifest(text, "draft")
        return [decode(probe, message) for message in self.messages]

    def _open(self, text: str) -> None:
        if text not in self.open_points:
            self.open_points.append(text)


def _kind(results: Sequence[Observed]) -> str:
    """The kind of a code's results, where they are no numbers; "" for numbers and for what says too little."""
    kinds = {one.value.kind for one in results} - {ValueKind.EMPTY, ValueKind.FAILED}
    if ValueKind.NUMERIC in kinds or not kinds:
        return ""
    for kind, name in ((ValueKind.IMAGE, "image"), (ValueKind.TIME, "time"), (ValueKind.RATIO, "ratio")):
        if kinds == {kind}:
            return name
    return "coded"


def _title(sender: str) -> str:
    words = [word.strip() for word in re.split(r"[\^&]", sender) if word.strip()]
    return " ".join(words[:2])[:60]


def _shape(text: str) -> str:
    """What a text looks like, without saying it: it may be a patient's."""
    form = re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", re.sub(r"[0-9]", "9", text)))
    return f"{len(text)} characters, like {form[:24]}"


def _and(paths: Iterable[FieldPath]) -> str:
    return ", ".join(map(str, paths))


def _path_list(paths: Sequence[FieldPath]) -> str:
    return _quoted(str(paths[0])) if len(paths) == 1 else f"[{', '.join(_quoted(str(path)) for path in paths)}]"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _literal(text: str) -> str:
    return f"'{text}'" if "'" not in text and text.isprintable() else _quoted(text)
