"""A network card, and behind it a gateway that knows only the guest and the host's loopback interface."""
