"""What lower floors call of higher ones; the package fills it in when it is imported."""

from collections.abc import Callable
from typing import Any

load_module: Callable[..., Any]  # run.load_module
