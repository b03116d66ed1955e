"""Who looks on while a hart runs: in the subset, beside the specification, which only notes what happens."""
