"""Virtio devices (OASIS Virtual I/O Device 1.2) behind the MMIO transport, for the board and for the VM alike.

Nothing runs between a queue notification and the next: a driver's store to QueueNotify serves the queue to its
end. Only the network, and typed input, arrive from outside; the machine's schedule asks for them.
"""
