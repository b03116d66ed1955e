"""Nested guests: what the hosted KVM does for a guest that is a hypervisor itself (docs/nested.md)."""
