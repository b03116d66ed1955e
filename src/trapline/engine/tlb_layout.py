"""Where the software TLB lies: sets (one a context) of load, store and fetch entries.

A load or store entry is 16 bytes: tag (page address of the VA), host address minus VA. A fetch entry
is 32 bytes: tag, address of the page's decoded records, pc base of those records, host address of
the page's bytes. A tag of all ones matches nothing. A page of a device has a load entry whose tag no access matches
(DEVICE_TAG); behind it stand where the page lies in the region, and the region's number in the low 12 bits.
"""

DATA_ENTRIES = 1024
FETCH_ENTRIES = 1024
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

# Behind a table of records: the bytes that they were decoded from, 0xff for each byte of these, where the page lies.
SNAPSHOT = TABLE_BYTES
USED = SNAPSHOT + 4096
PAGE_HOST = USED + 4096
CODE_PAGE_BYTES = PAGE_HOST + 64

WRITTEN_KEPT = 2  # pages with decoded code that may stay writable without notice: each fence.i compares them
