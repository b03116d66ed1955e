"""Self-checking bare programs for delegation and the Hypervisor chapter, for every core."""
