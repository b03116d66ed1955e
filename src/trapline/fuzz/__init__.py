"""Searching beyond what `audit` enumerates: programs at random, run in batches, and what they bring down."""
