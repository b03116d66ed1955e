"""Every packed layout that native code and Python share: where a word lies, and what its bits mean.

An example: `host_load(entry + FETCH_TABLE, 8)` in the subset, `view[AT_PAIRS]` in Python and an offset in LLVM text
are the same word only because all three take its place from here. Words of the hart and of devices are declared in
lang.state and lang.devices; blocks that rules of privilege/ fill (stops, observe, trace, undo) beside those rules.
"""

from enum import IntEnum

NOWHERE = 0xFFFF_FFFF_FFFF_FFFF  # no virtual address; of an entry's tag: it matches nothing

# --- translation sets: one a context, of load, store and fetch entries ---
# A load or store entry: a tag (page address of the VA), and host address less VA. A page of a device has a load entry
# whose tag no access matches (DEVICE_TAG); behind it stand where the page lies in the region, and the region's number
# in the low 12 bits. A store entry of a page that holds decoded code is marked: its tag has CODE_TAG too, which no
# store's own address matches, and behind it stands the address of the page's records: such stores take a longer way
# (engine.code_bytes). Pages of page tables have entries like those of loads.
DATA_FAR, DATA_BYTES = 8, 16
# A fetch entry: a tag, the page's records, the pc base of those records, the host address of the page's bytes.
FETCH_TABLE, FETCH_K, FETCH_HOST, FETCH_BYTES = 8, 16, 24, 32
DATA_ENTRIES = 1024
FETCH_ENTRIES = 1024
CODE_TAG = 0x800
DEVICE_TAG = 0x800
LOAD_AREA = 0
STORE_AREA = DATA_ENTRIES * DATA_BYTES
FETCH_AREA = STORE_AREA + DATA_ENTRIES * DATA_BYTES
SET_BYTES = FETCH_AREA + FETCH_ENTRIES * FETCH_BYTES
CONTEXTS = 16
# Behind the sets: pages of page tables, by physical and by guest physical address.
TABLES = 256
TABLE_AREA = CONTEXTS * SET_BYTES
GUEST_TABLE_AREA = TABLE_AREA + TABLES * DATA_BYTES
TLB_BYTES = GUEST_TABLE_AREA + TABLES * DATA_BYTES

# --- records of a page: one for each 2-byte place ---
# The handler's address; then rd, rs1, rs2 and the number of the handler of a single step, a byte each; then the
# immediate, 32 bits: of a branch 8 times its distance, which is that of the records, with rs3 (and rm) its bytes.
RECORD_OPERANDS, RECORD_IMMEDIATE, RECORD_BYTES = 8, 12, 16
RECORD_RD, RECORD_RS1, RECORD_RS2 = 8, 9, 10
OPERAND_BIT = {"rd": 0, "rs1": 8, "rs2": 16}  # where they begin in the word of operands
STEP_BIT, STEP_NUMBER = 24, 0xFF << 24
IMMEDIATE_BIT, BRANCH_BIT = 32, 35  # where an immediate begins, and a branch's distance in bytes
X0_SINK = 32  # the rd of an instruction that writes x0
RECORD_SLOTS = 2048
STRADDLE_SLOT = 2049  # the decoded instruction that starts in the page's last two bytes
TABLE_BYTES = 2056 * RECORD_BYTES
BLOCK_LIMIT = 256  # instructions decoded at a time
NO_HALF = 1 << 16  # equals no second half of an instruction

# Behind a table of records: for each byte of the page what it is code of, and words about the page.
USED = TABLE_BYTES
DECODED, HELD = 1, 2  # of a byte: a record was decoded from it; a compiled region was made from it
PAGE_HOST = USED + 4096  # where its bytes are
CODE_COUNT = PAGE_HOST + 8  # pairs of bytes that are code; without any, its store entries are like those of data
EPOCH = CODE_COUNT + 8  # grows whenever code is forgotten
UNDECODED = EPOCH + 8  # the handler of a place that is not decoded
FIRST_HART = UNDECODED + 8  # host address of the engine's first hart (lang.state: next_hart)
DATA_STORES = FIRST_HART + 8  # stores beside the code until all of it is forgotten, and how many that was at first
DATA_STORES_AT_FIRST = DATA_STORES + 8
ANYWHERE = DATA_STORES_AT_FIRST + 8  # 1: plain store entries may be at more addresses than these
STORED_AT = ANYWHERE + 8
PLACES = 4  # virtual addresses for which the page has plain store entries
STOPS = STORED_AT + 8 * PLACES  # 1: stops were put into its records: no region is entered from there, or made of it
CODE_PAGE_BYTES = TABLE_BYTES + 4096 + 128
FIRST_DATA_STORES = 4096

# --- a region that is offered to a hart: words, then ranges of bytes, then the records at which it is entered ---
OFFER_NEXT, OFFER_STATE, OFFER_RANGES, OFFER_HEADS, OFFER_BEGIN = 0, 8, 16, 24, 32
OFFER_OPEN, OFFER_TAKEN, OFFER_REFUSED, OFFER_WITHDRAWN = 0, 1, 2, 3  # of OFFER_STATE
RANGE_TABLE, RANGE_FIRST, RANGE_SIZE, RANGE_CONTENT, RANGE_BYTES = 0, 8, 16, 24, 32  # CONTENT: what was compiled
HEAD_RECORD, HEAD_OWN, HEAD_ENTRY, HEAD_BYTES = 0, 8, 16, 24  # a record, its handler, the way into the region

# --- the instruction table for the decoder in native code (engine.decode_table), in words ---
BUCKETS = 280
# Words behind the buckets' addresses.
AT_UNDECODED, AT_UNDEFINED, AT_STRADDLE, AT_ODD, AT_PAIRS, HEAD = BUCKETS, 281, 282, 283, 284, 288
PAIR_SLOTS = 4096  # a hash table of (first handler, second handler) to (handler of both, operand bits)
PAIR_SECOND, PAIR_BOTH, PAIR_BITS, PAIR_BYTES = 8, 16, 24, 32
# Words of an entry.
KEY, REFUSED, REFUSED_2, FLAGS, HANDLER, FORWARD, BACKWARD, SPECIAL = range(8)
REGISTERS, IMMEDIATE, REGISTER_PIECES, IMMEDIATE_PIECES = 8, 9, 10, 13
MAX_PIECES = 9
ACCESS, NUMBER = 22, 23
ENTRY_WORDS = 24
# Bits of FLAGS.
ENDS, BRANCH, SINK, SIGN_SHIFT, STEP_SHIFT = 1, 2, 4, 8, 24
# ACCESS of a load or store of one register: its size, flags, and from bit 12 1 + its place among
# isa.lookup.scalar_accesses.
# ACCESS_NOTHING: the access of a block's cache operation, which moves nothing.
# ACCESS_SP: c.swsp or c.sdsp.
ACCESS_SIZE, ACCESS_SIGNED, ACCESS_STORE, ACCESS_ZCB, ACCESS_FLOAT, ACCESS_NOTHING, ACCESS_SP = (
    15, 16, 32, 64, 128, 256, 512,
)  # fmt: skip
ACCESS_SHIFT = 12


# --- why native code comes back to what entered it (hart.native_exit) ---
class NativeExit(IntEnum):
    """What Python does next; what callers of run() see is lang.control.Exit."""

    LIMIT = 1  # the budget is spent, or the code area is full
    UNDECODED = 2  # Python decodes (regions are forced)
    NEW_PAGE = 3  # the page has no records yet
    SLOW = 4  # the page cannot be cached
    STRADDLE = 5  # an instruction across two pages is new or has changed
    SEMANTIC = 6  # hart.exit_reason says why
    STOPPED = 7  # a stop was hit


NATIVE_LIMIT, SEMANTIC = int(NativeExit.LIMIT), int(NativeExit.SEMANTIC)  # for the subset, which knows integers
