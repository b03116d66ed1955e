"""M-mode, hosted: delegation set-up, redirection of traps, emulation; models of real firmware as data."""
