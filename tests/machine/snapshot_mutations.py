"""Snapshots with something in them changed: what whoever wants to harm a host could send.

Each mutation changes one word of a hart, one value anywhere in the head, or the page tables and other memory. The
checksums are right again afterwards.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trapline.machine.machine import Machine
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.session.state.snapshot import SAVED
from trapline.session.state.snapshot_file import MAGIC, PIECE, SnapshotError, read
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

ONES = (1 << 64) - 1
BOUNDARIES = (0, 1, 2, 7, 31, 63, 64, 0xFFFF, 1 << 31, 1 << 32, 1 << 47, 1 << 62, (1 << 63) - 1, 1 << 63, ONES)
STRANGE = (None, True, -1, 1 << 64, 1.5, "", "x", [], {}, {"$": "kept"}, {"$": "tuple", "v": []}, {"$": 7}, [[0]])
COUNTERS = (  # where a few words stand for all
    *("trap_count", "mode_instret", "x", "f"),
    *("hpm_start", "hpm_tlb_page", "hpm_tlb_space"),
)

KINDS: dict[str, type[Machine] | type[Guest]] = {"boot": Machine, "run": Guest}

Head = dict[str, Any]


def write(path: Path, head: Head, payload: bytes) -> None:
    """Write a snapshot with checksums that are right."""
    head["payload"] = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    text = json.dumps(head, separators=(",", ":")).encode()
    path.write_bytes(MAGIC + struct.pack("<32sQ", hashlib.sha256(text).digest(), len(text)) + text + payload)


def words_of(text: str) -> list[int]:
    """The words of a saved hart."""
    raw = zlib.decompress(base64.b64decode(text))
    return list(struct.unpack(f"<{len(raw) // 8}Q", raw))


def packed(words: list[int]) -> str:
    """The same, as it is saved."""
    return base64.b64encode(zlib.compress(struct.pack(f"<{len(words)}Q", *words), 1)).decode()


def word_places() -> list[tuple[str, int]]:
    """Every word of a saved hart: its name and its place."""
    places, at = [], 0
    for field in SAVED:
        chosen = range(field.count) if field.name not in COUNTERS else (*range(3), field.count - 1)
        places += [(f"{field.name}[{n}]", at + n) for n in chosen]
        at += field.count
    return places


def change_word(head: Head, place: int, rng: random.Random) -> None:
    """Give one word of the first hart another value."""
    words = words_of(head["harts"][0])
    old = words[place]
    while words[place] == old:
        words[place] = rng.choice(
            (rng.choice(BOUNDARIES), old ^ 1 << rng.randrange(64), rng.getrandbits(64), old + 1 & ONES)
        )
    head["harts"][0] = packed(words)


def leaves(data: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a head, containers included."""
    yield way
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from leaves(value, (*way, key))


def change_value(head: Head, way: tuple[Any, ...], rng: random.Random) -> None:
    """Change one value in a head, or take it out."""
    *holders, last = way
    there: Any = head
    for key in holders:
        there = there[key]
    old = there[last]
    if rng.random() < 0.1:
        del there[last]
    elif isinstance(old, bool) or old is None or not isinstance(old, (int, list)) or rng.random() < 0.25:
        there[last] = rng.choice([s for s in (*STRANGE, 0, 3) if s != old])
    elif isinstance(old, int):
        there[last] = rng.choice([*(b for b in BOUNDARIES if b != old), old + 1, -old - 1, rng.getrandbits(64)])
    else:
        there[last] = rng.choice([old * 2, old[:-1], old[::-1], [*old, 0], [old]])


def change_memory(head: Head, payload: bytes, rng: random.Random) -> bytes:
    """Fill some words of one piece of memory with what looks like page table entries, or with anything."""
    row = rng.choice([row for row in head["memory"] if row["pieces"]])
    at = sum(length for r in head["memory"][: head["memory"].index(row)] for _, length in r["pieces"])
    number, length = row["pieces"][0]
    data = bytearray(zlib.decompress(payload[at : at + length]))
    for _ in range(rng.choice((1, 4, 64))):
        place = rng.choice([n for n in range(0, len(data), 8) if any(data[n : n + 8])] or [0])
        table = (0x8000_0000 + rng.randrange(1 << 14) * 4096) >> 2
        data[place : place + 8] = struct.pack("<Q", rng.choice((rng.getrandbits(64), table | 1, table | 0xCF)))
    piece = zlib.compress(bytes(data), 1)
    row["pieces"][0] = [number, len(piece)]
    assert len(data) <= PIECE
    return payload[:at] + piece + payload[at + length :]


def go_on(path: Path, kind: str, virtio: VirtioOptions = NO_VIRTIO, instructions: int = 1500) -> str:
    """Restore and run; say what became of it. Anything but a refusal and a result is the caller's to see."""
    out = bytearray()
    try:
        made: Machine | Guest = (Machine if kind == "boot" else Guest).restore(
            path, console=Console(out.extend), virtio=virtio
        )
    except SnapshotError as error:
        assert "\n" not in str(error), error
        return "refused"
    made.run(instructions, 2)
    made.close()
    return "ran"


def mutations(path: Path, seed: int) -> list[tuple[str, Callable[[Path], None]]]:
    """Every mutation of a snapshot, once: its name, and what writes it to a file."""
    head, view = read(path)
    payload = bytes(view)
    ways = leaves({k: head[k] for k in ("made_with", "state", "about", "memory", "harts", "kind", "layout")})

    def word(file: Path, name: str, place: int) -> None:
        changed = {**head, "harts": head["harts"][:]}
        change_word(changed, place, random.Random(f"{seed} {name}"))
        write(file, changed, payload)

    def value(file: Path, name: str, way: tuple[Any, ...]) -> None:
        changed = copy.deepcopy(head)
        change_value(changed, way, random.Random(f"{seed} {name}"))
        write(file, changed, payload)

    def memory(file: Path, name: str, _: int) -> None:
        changed = copy.deepcopy(head)
        write(file, changed, change_memory(changed, payload, random.Random(f"{seed} {name}")))

    rows: list[tuple[str, Callable[[Path, str, Any], None], Any]] = [
        *((f"word {name}", word, place) for name, place in word_places()),
        *((f"value {'/'.join(map(str, way))}", value, way) for way in ways if way),
        *((f"memory {n}", memory, n) for n in range(30)),
    ]
    return [(name, lambda file, n=name, c=change, w=what: c(file, n, w)) for name, change, what in rows]
