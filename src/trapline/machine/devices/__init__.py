"""Devices of the board: console, timers, interrupt controllers, the way off."""
