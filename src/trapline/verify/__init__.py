"""The project's own proof: random streams, lockstep, Spike, campaigns, coverage."""
