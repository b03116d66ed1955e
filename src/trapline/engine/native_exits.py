"""Why native code comes back to what entered it (hart.native_exit)."""

NATIVE_LIMIT = 1  # the budget is spent, or the code area is full
UNDECODED = 2  # Python decodes (regions are forced)
NEW_PAGE = 3  # the page has no records yet
SLOW = 4  # the page cannot be cached
STRADDLE = 5  # an instruction across two pages is new or has changed
SEMANTIC = 6  # hart.exit_reason says why
STOPPED = 7  # a stop was hit
