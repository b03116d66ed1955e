"""Why KVM_RUN of a vCPU comes back."""

from __future__ import annotations

from enum import Enum


class RunStop(Enum):
    """Why `Vcpu.run` came back."""

    EXIT = "exit"  # KVM_RUN returned 0: look at kvm_run.exit_reason
    ERROR = "error"  # KVM_RUN failed: look at death
    LIMIT = "limit"  # the instruction limit of this call
    BLOCKED = "blocked"  # halted or stopped, nothing wakes it yet
    HUNG = "hung"  # the firmware never came back
    YIELD = "yield"  # a WRS gave the rest of the turn to the other vCPUs
    INTR = "intr"  # kvm_run.immediate_exit was set: -EINTR
    STOP = "stop"  # a device or a hook asked to stop
