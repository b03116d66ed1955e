"""Engines that run a hart: the reference engine under CPython and the native one."""
