"""The decoder in native code writes the same records as the one in Python, byte for byte."""

from __future__ import annotations

import ctypes
import mmap
import random
from functools import cache

import pytest

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.engine import decode_table
from trapline.engine.code import PAGE, CodePage, CodeStore
from trapline.engine.compiler_names import step_index
from trapline.engine.native import NativeEngine
from trapline.engine.records import CODE_PAGE_BYTES
from trapline.isa.assemble import assemble
from trapline.isa.decode import _SWITCHED, Decoder
from trapline.isa.encoding import parse
from trapline.lang.functions import INSTRUCTIONS
from trapline.lang.state import Hart

EVERYTHING = frozenset(["I", *_SWITCHED])
ISAS = {
    "everything": EVERYTHING,
    "no C": EVERYTHING - {"C"},
    "I alone": frozenset({"I"}),
    "rv64gc": frozenset({"I", "M", "A", "F", "D", "C", "Zicsr", "Zifencei", "S", "U"}),
    "no H, no Zcb": EVERYTHING - {"H", "Zcb", "Zfh"},
}


@cache
def engine() -> NativeEngine:
    return NativeEngine()


class Both:
    """One page decoded by either decoder."""

    def __init__(self, enabled: frozenset[str]) -> None:
        self.store = CodeStore(engine().symbols, step_index())
        self.store.set_decoder(Decoder(enabled))
        self.memory = mmap.mmap(-1, PAGE)
        host = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.words = (ctypes.c_uint64 * 2)()
        infos = ctypes.addressof(self.words)
        self.pages = [self.store.new_page(infos + 8 * n, host, None) for n in range(2)]
        self.hart = Hart()
        self.hart.decode_base = self.store.table

    def check(self, data: bytes, starts: list[int]) -> None:
        """Decode the page from each start, in this order; everything kept of it is the same."""
        self.memory[:] = data.ljust(PAGE, b"\0")
        python, native = self.pages
        for page in self.pages:
            self.store.forget(page)
        for start in starts:
            self.store.decode_block(python, start)
            engine()._plain("c.decode_block", self.hart, native.table, native.host, start)
        assert raw(native)[: len(self.store._blank)] == raw(python)[: len(self.store._blank)]
        assert native.used == python.used
        assert native.words.tolist()[1] == python.words.tolist()[1] == sum(1 for n in native.used[::2] if n)


def raw(page: CodePage) -> bytes:
    return ctypes.string_at(page.table, CODE_PAGE_BYTES)


@pytest.fixture(params=ISAS, scope="module")
def both(request: pytest.FixtureRequest) -> Both:
    return Both(ISAS[request.param])


def test_all_short_instructions(both: Both) -> None:
    """Every 16-bit pattern, legal or not, one after the other at changing places of the page."""
    everything = [bits for bits in range(1 << 16) if bits & 3 != 3]
    random.Random(1).shuffle(everything)
    for at in range(0, len(everything), PAGE // 2):
        data = b"".join(bits.to_bytes(2, "little") for bits in everything[at : at + PAGE // 2])
        both.check(data, list(range(0, PAGE, 2)))


def test_random_pages(both: Both) -> None:
    """Pages of random bytes, decoded from random places."""
    random_ = random.Random(2)
    for _ in range(6):
        starts = [random_.randrange(0, PAGE, 2) for _ in range(400)]
        both.check(random_.randbytes(PAGE), starts)


def test_random_operands(both: Both) -> None:
    """Every instruction of the table with random operands, so that each field and each fused pair is met."""
    random_ = random.Random(3)
    for _ in range(8):
        data = bytearray()
        while len(data) < PAGE - 2:
            encoding = parse(random_.choice(INSTRUCTIONS).pattern)
            free = ~encoding.mask & ((1 << encoding.length * 8) - 1)
            bits = encoding.match | random_.getrandbits(32) & free
            data += bits.to_bytes(encoding.length, "little")
        both.check(bytes(data[:PAGE]), list(range(0, PAGE, 2)))


def test_assembled_code() -> None:
    """Code with fused pairs, branches out of the page and an instruction across its end."""
    source = """
        ld s0, 0(sp)
        ld s1, 8(sp)
        addi a0, a0, 1
        bne a0, a1, .+4
        csrr t0, sepc
        csrrs t0, sepc, t1
        csrw stvec, t0
        fmadd.d fa0, fa1, fa2, fa3, rtz
        beq a0, a1, .-64
        jal ra, .+8
    """
    code = assemble(source, 0)
    both = Both(EVERYTHING)
    for at in (0, 2, 30, 4094 - len(code), 4096 - len(code)):
        both.check(b"\0" * at + code, list(range(0, PAGE, 2)))
        both.check(b"\x01\0" * (at // 2) + code, [0, at])


def test_an_instruction_across_two_pages(both: Both) -> None:
    """Every instruction of the table with random operands, and patterns that are none, begin in a page's last bytes."""
    random_ = random.Random(5)
    python, native = both.pages
    long = [encoding for each in INSTRUCTIONS if (encoding := parse(each.pattern)).length == 4]
    patterns = [encoding.match | random_.getrandbits(32) & ~encoding.mask for encoding in long for _ in range(8)]
    for bits in [*patterns, *(random_.getrandbits(32) | 3 for _ in range(400))]:
        both.check(bytes(PAGE - 2) + (bits & 0xFFFF).to_bytes(2, "little"), [PAGE - 2])
        half = bits >> 16 & 0xFFFF
        both.store.decode_straddle(python, half)
        engine()._plain("c.decode_straddle", both.hart, native.table, native.host, half)
        assert raw(native)[: len(both.store._blank)] == raw(python)[: len(both.store._blank)], hex(bits)


def test_changed_code_is_forgotten(both: Both) -> None:
    """Exactly the records that changed bytes may belong to, the pairs before them too, are undecoded again."""
    random_ = random.Random(4)
    _, page = both.pages
    for _ in range(6):
        before = random_.randbytes(PAGE)
        both.check(before, list(range(0, PAGE, 2)))
        changed = random_.sample(range(PAGE), random_.choice((0, 1, 5, 200)))
        expected = forgotten(page, changed, both.store.symbols["h.undecoded"])
        for at in changed:
            both.store.change(page, at, at + 1)
        assert (page.view.tolist(), bytes(page.used)) == expected


def forgotten(page: CodePage, changed: list[int], undecoded: int) -> tuple[list[int], bytes]:
    """Records and used bytes of a page after some of its bytes have changed."""
    view, used = page.view.tolist(), bytearray(page.used)
    for offset in range(0, PAGE, 2):
        if any(page.used[n] and n in changed for n in (offset, offset + 1)):
            used[offset : offset + 2] = b"\0\0"
            for place in range(max(0, offset - 6), offset + 1, 2):
                view[place] = undecoded
                view[place + 1] &= ~(0xFF << 24)
    return view, bytes(used)


def test_table_refuses_what_it_cannot_hold() -> None:
    """A `where` that refuses more than two values of a field is an error when the table is made."""
    instruction = next(i for i in INSTRUCTIONS if i.name == "c.addi")
    encoding = parse(instruction.pattern)
    refusing = type(instruction)(**{n: getattr(instruction, n) for n in instruction.__slots__})
    refusing.where = lambda fields: fields["rd"] > 7
    with pytest.raises(ValueError, match=r"c\.addi: 8 values"):
        decode_table.refused(refusing, encoding)
