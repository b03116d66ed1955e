"""What every part of the declaration shares: the layout, in which words lie in the order of their declaration."""

from __future__ import annotations

from trapline.lang.layout import Layout

LAYOUT = Layout()
REGIONS = 24
MOST_TIME = (1 << 62) - 1  # of instructions: centuries, and their sums stay words
HPM_DTLB, HPM_ITLB = 512, 256  # entries of the TLB whose misses are counted (privilege.tlb_misses)
SAMPLES = 256
STEP_SLOTS = 12  # records that are copied at a time where an exact number of attempts is left
WATCHER = REGIONS
TRAP_CAUSES, TRAP_ORIGINS, TRAP_DESTINATIONS = 64, 8, 4
IMSIC_FILES, IMSIC_WORDS = 9, 4
SHADOWS = 8
STORED_PAGES = 64  # that a hart's log of stores has places for
EXIT_KINDS, EXIT_RING = 32, 64
EDGE_WORDS, EDGE_LANES = 128, 32  # of pairs of exits (firmware.exit_edges)
SBI_RULES = 32
ANSWERS = 64  # to SBI calls, that are kept (kvm.exits.kept_answers)
HALT_BUCKETS = 32  # HALT_POLL_HIST_COUNT (include/linux/kvm_types.h)
