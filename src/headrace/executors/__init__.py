"""Where predict runs: inline in this process, or in worker processes."""
