"""Writing a flattened device tree (Devicetree Specification 0.4, chapter 5: format version 17)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_MAGIC, _VERSION, _LAST_COMPATIBLE = 0xD00DFEED, 17, 16
_BEGIN_NODE, _END_NODE, _PROP, _END = 1, 2, 3, 9
_HEADER_SIZE = 40

Value = None | int | str | bytes | Sequence["str"] | Sequence["int"]


class Node:
    """A node: properties in order, then children.

    A property's value is None (present, empty), an int (one 32-bit cell), a list of ints (cells),
    a string, a list of strings, or bytes.
    """

    def __init__(self, name: str, **properties: Value) -> None:
        self.name = name
        self.properties: dict[str, Value] = {}
        self.children: list[Node] = []
        for key, value in properties.items():
            self.properties[key] = value

    def set(self, key: str, value: Value) -> Node:
        """Set a property whose name is not a Python word."""
        self.properties[key] = value
        return self

    def add(self, child: Node) -> Node:
        """Append a child and return it."""
        self.children.append(child)
        return child

    def find(self, path: str) -> Node:
        """Return the node at `path` ("/cpus/cpu@0"); KeyError if there is none."""
        node = self
        for name in path.strip("/").split("/") if path.strip("/") else ():
            match = [c for c in node.children if c.name == name]
            if not match:
                raise KeyError(path)
            node = match[0]
        return node


def cells64(*values: int) -> list[int]:
    """Split 64-bit values into pairs of cells."""
    return [half for v in values for half in (v >> 32 & 0xFFFF_FFFF, v & 0xFFFF_FFFF)]


def encode_value(value: Value) -> bytes:
    """Return the bytes of a property's value."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="surrogateescape") + b"\0"  # a command line's bytes, be they UTF-8 or not
    if isinstance(value, int):
        return struct.pack(">I", value)
    return b"".join(encode_value(item) for item in value)


def write_fdt(root: Node, *, boot_cpu: int = 0, padding: int = 0) -> bytes:
    """Return the blob; `padding` bytes are left for firmware to add properties."""
    strings: dict[str, int] = {}
    table = bytearray()
    for key in _keys(root):
        if key not in strings:
            strings[key] = len(table)
            table += key.encode() + b"\0"
    structure = _node(root, strings) + struct.pack(">I", _END)
    reserve = bytes(16)
    structure_at = _HEADER_SIZE + len(reserve)
    strings_at = structure_at + len(structure)
    total = strings_at + len(table)
    total += -total % 8 + padding
    header = struct.pack(
        ">10I",
        _MAGIC,
        total,
        structure_at,
        strings_at,
        _HEADER_SIZE,
        _VERSION,
        _LAST_COMPATIBLE,
        boot_cpu,
        len(table),
        len(structure),
    )
    blob = header + reserve + structure + bytes(table)
    return blob + bytes(total - len(blob))


def _keys(node: Node) -> Iterator[str]:
    yield from node.properties
    for child in node.children:
        yield from _keys(child)


def _node(node: Node, strings: dict[str, int]) -> bytes:
    parts = [struct.pack(">I", _BEGIN_NODE), _pad(node.name.encode() + b"\0")]
    for key, value in node.properties.items():
        data = encode_value(value)
        parts.append(struct.pack(">III", _PROP, len(data), strings[key]) + _pad(data))
    parts += [_node(child, strings) for child in node.children]
    parts.append(struct.pack(">I", _END_NODE))
    return b"".join(parts)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
