"""Plan of a sweep: its runs with their hashes, which of them train together, and the settings of their training."""
