"""Where the software TLB lies: sets (one a context) of load, store and fetch entries.

A load or store entry is 16 bytes: tag (page address of the VA), host address minus VA. A fetch entry
is 32 bytes: tag, address of the page's decoded records, pc base of those records, host address of
the page's bytes. A tag of all ones matches nothing. A page of a device has a load entry whose tag no access matches
(DEVICE_TAG); behind it stand where the page lies in the region, and the region's number in the low 12 bits.

A store entry of a page that holds decoded code is marked: its tag has CODE_TAG too, which no store's own address
matches, and behind it stands the address of the page's records. Such stores take a longer way (engine.code_bytes).
"""

DATA_ENTRIES = 1024
FETCH_ENTRIES = 1024
CODE_TAG = 0x800
LOAD_AREA = 0
DEVICE_TAG = 0x800
STORE_AREA = DATA_ENTRIES * 16
FETCH_AREA = STORE_AREA + DATA_ENTRIES * 16
SET_BYTES = FETCH_AREA + FETCH_ENTRIES * 32
CONTEXTS = 16

# Behind the sets: pages of page tables, by physical and by guest physical address. Entries as for loads.
TABLES = 256
TABLE_AREA = CONTEXTS * SET_BYTES
GUEST_TABLE_AREA = TABLE_AREA + TABLES * 16
TLB_BYTES = GUEST_TABLE_AREA + TABLES * 16

RECORD_BYTES = 16
RECORD_SLOTS = 2048  # one for each 2-byte place of a page
STRADDLE_SLOT = 2049  # the decoded instruction that starts in the page's last two bytes
TABLE_BYTES = 2056 * RECORD_BYTES
BLOCK_LIMIT = 256  # instructions decoded at a time
NO_HALF = 1 << 16  # equals no second half of an instruction
STEP_NUMBER = 0xFF << 24  # of a record: which handler a single step runs

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

NOWHERE = 0xFFFF_FFFF_FFFF_FFFF  # no virtual address

FIRST_DATA_STORES = 4096
