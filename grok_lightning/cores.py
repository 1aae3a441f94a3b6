"""How many CPU cores there are."""

import os


def cores() -> int:
    """How many CPU cores this process may use; all of the machine where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
