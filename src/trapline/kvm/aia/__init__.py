"""The AIA of a VM in KVM (aia.c, aia_device.c, aia_imsic.c)."""
