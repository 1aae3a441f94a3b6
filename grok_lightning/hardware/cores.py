"""Number of available CPU cores."""

import os


def cores() -> int:
    """Number of CPU cores that this process may use; all cores of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
