"""Policy presets against the kernels that they are named after: the same probes, real and hosted, row for row."""
