"""Output of a sweep: its plan, its progress and its results."""
