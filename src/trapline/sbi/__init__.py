"""The Supervisor Binary Interface, written once: served by the hosted firmware and by the hosted KVM."""
