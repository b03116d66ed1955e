"""KVM's interface to its user space: slots, ONE_REG, kvm_run, statistics, dirty logs."""
