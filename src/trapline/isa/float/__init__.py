"""Floating point in integers, and the instructions of F, D and Zfh for each format."""
