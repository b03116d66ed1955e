"""Getting a distribution's kernel, firmware and busybox: where from, whether they are genuine, where they go."""
