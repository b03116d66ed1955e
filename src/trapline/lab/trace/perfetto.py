"""A trace in Perfetto's own format (`.pftrace`): protocol buffers, as protos/perfetto/trace/trace_packet.proto says.

A track for each level of each hart, below a track for the hart; a slice from trap to return; below the level a counter
of its traps. Names are written once (interned). A microsecond there is an instruction here, as in the JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from trapline.lab.output import OutputFile
from trapline.privilege.causes import cause_name
from trapline.session.observe.trace import Traced

NANOSECONDS = 1000  # of an instruction
LEVELS = ("M", "HS", "VS")
TRAPS_A_COUNT = 16  # traps of a level between two values of its counter
# Fields of the messages, by the names that the .proto files give them.
PACKET = 1  # of Trace
TIMESTAMP, SEQUENCE, TRACK_EVENT, INTERNED, FLAGS, TRACK = 8, 10, 11, 12, 13, 60  # of TracePacket
UUID, NAME, PARENT, COUNTER = 1, 2, 5, 8  # of TrackDescriptor
ANNOTATION, KIND, NAME_ID, TRACK_UUID, VALUE = 4, 9, 10, 11, 30  # of TrackEvent
EVENT_NAMES, ANNOTATION_NAMES = 2, 3  # of InternedData
ANNOTATION_NAME_ID, TEXT, POINTER = 1, 6, 7  # of DebugAnnotation
BEGIN, END, COUNT = 1, 2, 4  # of TrackEvent.Type
_cause = functools.lru_cache(maxsize=256)(cause_name)
OF_COUNTER = 8  # in the number of a counter's track
CLEARED, NEEDED = 1, 2  # of TracePacket.SequenceFlags
ARGUMENTS = ("from", "epc", "tval", "tval2", "to", "pc")


def new_varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


varint = functools.lru_cache(maxsize=1 << 15)(new_varint)  # addresses, tags and sizes come again and again


@functools.lru_cache(maxsize=1 << 12)
def known(tag: int, value: int) -> bytes:
    """The same of numbers that come again and again."""
    return number(tag, value)


def number(tag: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(tag << 3) + varint(value)


def piece(tag: int, data: bytes) -> bytes:
    """A field that is a message or a text."""
    return varint(tag << 3 | 2) + varint(len(data)) + data


class Perfetto:
    """Writes packets; `out` is a file in latin-1, so that its characters are bytes."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out
        self._made: list[bytes] = []
        self._tracks: set[int] = set()
        self._names: dict[str, int] = {}
        self._open: dict[int, int] = {}
        self._counts: dict[int, tuple[int, int]] = {}  # by track: traps so far, and when the last one was
        names = b"".join(_entry(ANNOTATION_NAMES, n, name) for n, name in enumerate(ARGUMENTS, 1))
        self._packet(number(FLAGS, CLEARED) + piece(INTERNED, names))
        self._hand_on()

    def write(self, found: Sequence[Traced]) -> None:
        for traced in found:
            track = self._track(traced)
            if not traced.returns:
                self._open[track] = self._open.get(track, 0) + 1
                tval, tval2 = _pointer("tval", traced.tval), _pointer("tval2", traced.tval2)
                more = _text("from", traced.mode) + _pointer("epc", traced.epc) + tval + tval2
                self._event(traced, BEGIN, track, more)
                count = self._counts.get(track, (0, 0))[0] + 1
                self._counts[track] = count, traced.instret
                if count % TRAPS_A_COUNT == 1:
                    self._count(track)
            elif self._open.get(track, 0):
                self._open[track] -= 1
                self._event(traced, END, track, _text("to", traced.mode) + _pointer("pc", traced.epc))
        self._hand_on()

    def end(self) -> None:
        """Write what each level has come to."""
        for track in self._counts:
            self._count(track)
        self._hand_on()

    def _count(self, track: int) -> None:
        """Write how many traps a level has had."""
        count, instret = self._counts[track]
        event = number(KIND, COUNT) + number(TRACK_UUID, track | OF_COUNTER) + number(VALUE, count)
        self._packet(number(TIMESTAMP, instret * NANOSECONDS) + number(FLAGS, NEEDED) + piece(TRACK_EVENT, event))

    def _track(self, traced: Traced) -> int:
        hart = (traced.hart + 1) << 4
        track = hart | (LEVELS.index(traced.level) + 1)
        if track not in self._tracks:
            counter = track | OF_COUNTER, f"traps to {traced.level}", track
            for uuid, name, parent in ((hart, f"hart {traced.hart}", 0), (track, traced.level, hart), counter):
                if uuid not in self._tracks:
                    self._tracks.add(uuid)
                    more = number(PARENT, parent) if parent else b""
                    more += piece(COUNTER, b"") if uuid & OF_COUNTER else b""
                    self._packet(piece(TRACK, number(UUID, uuid) + piece(NAME, name.encode()) + more))
        return track

    def _event(self, traced: Traced, kind: int, track: int, arguments: bytes) -> None:
        event, interned = known(KIND, kind) + known(TRACK_UUID, track) + arguments, b""
        if kind == BEGIN:
            name = _cause(traced.cause)
            if name not in self._names:
                self._names[name] = len(self._names) + 1
                interned = piece(INTERNED, _entry(EVENT_NAMES, self._names[name], name))
            event += known(NAME_ID, self._names[name])
        at = varint(TIMESTAMP << 3) + new_varint(traced.instret * NANOSECONDS)
        self._packet(at + known(FLAGS, NEEDED) + interned + piece(TRACK_EVENT, event))

    def _packet(self, fields: bytes) -> None:
        self._made.append(piece(PACKET, known(SEQUENCE, 1) + fields))

    def _hand_on(self) -> None:
        self._out.write(b"".join(self._made).decode("latin-1"))
        self._made = []


def _entry(kind: int, place: int, name: str) -> bytes:
    """A name of InternedData."""
    return piece(kind, number(1, place) + piece(2, name.encode()))


@functools.cache
def _text(name: str, value: str) -> bytes:
    return piece(ANNOTATION, number(ANNOTATION_NAME_ID, ARGUMENTS.index(name) + 1) + piece(TEXT, value.encode()))


@functools.lru_cache(maxsize=1 << 15)
def _pointer(name: str, value: int) -> bytes:
    return piece(ANNOTATION, number(ANNOTATION_NAME_ID, ARGUMENTS.index(name) + 1) + number(POINTER, value))
