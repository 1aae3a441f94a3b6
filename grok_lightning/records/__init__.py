"""What runs leave behind, and reading it back: records, checkpoints, the index of an experiment."""
