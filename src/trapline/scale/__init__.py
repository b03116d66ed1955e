"""Many runs at once: sweeps over policies, firmware, workloads, options and seeds."""
