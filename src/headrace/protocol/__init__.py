"""The wire formats as pure functions: bytes in, types out. No I/O, no frameworks."""
