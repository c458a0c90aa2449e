"""What `headrace deploy` prints: one file for each target, all of them made of one `Workload`."""
