"""A folder of the host for the guest: the file protocol 9P2000.L over a virtio transport."""
