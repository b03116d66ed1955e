"""Decoding in native code: instructions of a page into its records, by the table of engine.decode_table.

The same that `engine.code.CodeStore.decode_block` and `decode_straddle` do in Python, record for record.
"""

from __future__ import annotations

from trapline.engine.code_bytes import mark_code
from trapline.engine.observe.stops import ANY_CSR
from trapline.engine.records import (
    AT_ODD,
    AT_PAIRS,
    AT_STRADDLE,
    AT_UNDECODED,
    AT_UNDEFINED,
    BACKWARD,
    BLOCK_LIMIT,
    BRANCH,
    BRANCH_BIT,
    DECODED,
    ENDS,
    FLAGS,
    FORWARD,
    HANDLER,
    IMMEDIATE,
    IMMEDIATE_BIT,
    IMMEDIATE_PIECES,
    KEY,
    MAX_PIECES,
    NO_HALF,
    NOWHERE,
    PAIR_BITS,
    PAIR_BOTH,
    PAIR_BYTES,
    PAIR_SECOND,
    PAIR_SLOTS,
    RECORD_BYTES,
    RECORD_OPERANDS,
    RECORD_SLOTS,
    REFUSED,
    REFUSED_2,
    REGISTER_PIECES,
    REGISTERS,
    SIGN_SHIFT,
    SINK,
    SPECIAL,
    STEP_BIT,
    STEP_SHIFT,
    STOPS,
    STRADDLE_SLOT,
    X0_SINK,
)
from trapline.lang.control import arm_code
from trapline.lang.functions import cold, hosted, inline
from trapline.lang.memory import host_load, host_store
from trapline.lang.state import Hart
from trapline.lang.values import U64

PAGE = 4096
END = 0xFFFF_FFFF_FFFF_FFFF
OUTSIDE = 1 << 32  # an offset from which no branch leads into the page
BUCKET_LIMIT = 128
SPECIAL_LIMIT = 64


@inline
def word(base: U64, number: U64) -> U64:
    """A word of a table."""
    return host_load(base + number * 8, 8)


@inline
def matches(bits: U64, key: U64) -> bool:
    """Whether the instruction has the value (upper half of the key) under the mask (lower half)."""
    return bits & key & 0xFFFF_FFFF == key >> 32


@cold
def find_entry(hart: Hart, bits: U64) -> U64:
    """The address of the table's entry for an instruction; 0: there is none."""
    bucket = (bits >> 2 & 31) << 3 | (bits >> 12 & 7)
    if bits & 3 != 3:
        bucket = ((bits & 3) << 3 | (bits >> 13 & 7)) + 256
    entries = word(hart.decode_base, bucket)
    for i in range(BUCKET_LIMIT):
        entry = word(entries, U64(i))
        if entry == 0:
            break
        if matches(bits, word(entry, U64(KEY))) and not matches(bits, word(entry, U64(REFUSED))):
            if not matches(bits, word(entry, U64(REFUSED_2))):
                return entry
    return U64(0)


@inline
def piece(bits: U64, how: U64) -> U64:
    """Some bits of the instruction, moved to their place."""
    return (bits >> (how & 63) & how >> 32) << (how >> 8 & 63)


@inline
def register_bytes(bits: U64, entry: U64) -> U64:
    """The record's register numbers."""
    found = word(entry, U64(REGISTERS))
    for i in range(3):
        found = found | piece(bits, word(entry, U64(i + REGISTER_PIECES)))
    if word(entry, U64(FLAGS)) & SINK != 0 and found & 255 == 0:
        found = found | X0_SINK
    return found


@inline
def immediate(bits: U64, entry: U64) -> U64:
    """The instruction's immediate, sign-extended where it is signed."""
    found = word(entry, U64(IMMEDIATE))
    for i in range(MAX_PIECES):
        how = word(entry, U64(i + IMMEDIATE_PIECES))
        if how == 0:
            break
        found = found | piece(bits, how)
    top = word(entry, U64(FLAGS)) >> SIGN_SHIFT & 255
    if top != 0:
        sign = U64(1) << (top - 1 & 63)
        found = (found ^ sign) - sign
    return found


@cold
def special_handler(entry: U64, registers: U64, number: U64) -> U64:
    """The handler for one CSR, or that for any."""
    specials = word(entry, U64(SPECIAL))
    if specials != 0:
        for i in range(SPECIAL_LIMIT):
            key = word(specials, U64(i * 2))
            if key == END:
                break
            if key & 0xFFFF == number:
                if key >> 16 == 0 or registers >> 8 & 255 == 0:
                    return word(specials, U64(i * 2 + 1))
                break
    return word(entry, U64(HANDLER))


@cold
def find_pair(pairs: U64, first: U64, second: U64) -> U64:
    """The address of a fused pair's slot; 0: these two are not fused."""
    mixed = first * 31 + second
    slot = (mixed >> 4 ^ mixed >> 15) & (PAIR_SLOTS - 1)
    for _ in range(PAIR_SLOTS):
        at = pairs + slot * PAIR_BYTES
        known = host_load(at, 8)
        if known == 0:
            break
        if known == first and host_load(at + PAIR_SECOND, 8) == second:
            return at
        slot = slot + 1 & (PAIR_SLOTS - 1)
    return U64(0)


@cold
def write_record(hart: Hart, record: U64, offset: U64, bits: U64) -> U64:
    """Fill the record of an instruction; return 1 if straight-line code ends here."""
    entry = find_entry(hart, bits)
    if entry == 0:
        host_store(record + RECORD_OPERANDS, 8, U64(0))
        host_store(record, 8, word(hart.decode_base, U64(AT_UNDEFINED)))
        return U64(1)
    flags = word(entry, U64(FLAGS))
    registers = register_bytes(bits, entry)
    number = immediate(bits, entry)
    if flags & BRANCH == 0:
        host_store(record + RECORD_OPERANDS, 8, registers | number << IMMEDIATE_BIT)
        host_store(record, 8, special_handler(entry, registers, number))
        return flags & ENDS
    handler = word(entry, U64(HANDLER))
    target = offset + number
    if target < PAGE and target & word(hart.decode_base, U64(AT_ODD)) == 0:
        registers = registers | (flags >> STEP_SHIFT & 255) << STEP_BIT
        handler = word(entry, U64(FORWARD))
        if number == 0 or number >> 63 != 0:
            handler = word(entry, U64(BACKWARD))
    host_store(record + RECORD_OPERANDS, 8, registers | number << BRANCH_BIT)
    host_store(record, 8, handler)
    return flags & ENDS


@hosted
def decode_straddle(hart: Hart, table: U64, host: U64, half: U64) -> None:
    """Decode the instruction that starts in the page's last two bytes and ends with `half`."""
    bits = host_load(host + (PAGE - 2), 2) | half << 16
    write_record(hart, table + STRADDLE_SLOT * RECORD_BYTES, U64(OUTSIDE), bits)
    host_store(table + ((RECORD_SLOTS - 1) * RECORD_BYTES + RECORD_OPERANDS), 8, half << IMMEDIATE_BIT)


@hosted
def decode_block(hart: Hart, table: U64, host: U64, start: U64) -> None:
    """Decode from a page offset until straight-line code ends; `host` is where the page's bytes are."""
    undecoded = word(hart.decode_base, U64(AT_UNDECODED))
    pairs = word(hart.decode_base, U64(AT_PAIRS))
    offset = start
    last = table
    last_handler = U64(0)
    for _ in range(BLOCK_LIMIT):
        record = table + offset * 8
        if offset >= PAGE or host_load(record, 8) != undecoded:
            break
        bits = host_load(host + offset, 2)
        length = U64(2)
        ends = U64(1)
        if bits & 3 == 3 and offset == PAGE - 2:
            host_store(record + RECORD_OPERANDS, 8, U64(NO_HALF << IMMEDIATE_BIT))
            host_store(record, 8, word(hart.decode_base, U64(AT_STRADDLE)))
        else:
            if bits & 3 == 3:
                bits = bits | host_load(host + offset + 2, 2) << 16
                length = U64(4)
            ends = write_record(hart, record, offset, bits)
            handler = host_load(record, 8)
            if last_handler != 0:
                pair = find_pair(pairs, last_handler, handler)
                if pair != 0:
                    host_store(last, 8, host_load(pair + PAIR_BOTH, 8))
                    host_store(
                        last + RECORD_OPERANDS, 8, host_load(last + RECORD_OPERANDS, 8) | host_load(pair + PAIR_BITS, 8)
                    )
            last = record
            last_handler = handler
        offset = offset + length
        if ends != 0:
            break
    mark_code(table, start, offset, U64(DECODED))
    if hart.stops_base != 0:
        if host_load(table + STOPS, 8) | host_load(hart.stops_base + ANY_CSR, 8) != 0:
            arm_code(hart, table, U64(NOWHERE))
