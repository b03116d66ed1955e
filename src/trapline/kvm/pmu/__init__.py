"""The PMU of a vCPU (vcpu_pmu.c) and the host's perf events behind it."""
