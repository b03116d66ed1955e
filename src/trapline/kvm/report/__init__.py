"""What KVM tells of a run: its trace, what exits cost, walks and deaths."""
