"""A workbench for grokking: small networks that memorize part of an operation's table and, long after, generalize.

The public names are imported when they are first used, since torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grok_lightning import provided

if TYPE_CHECKING:
    from grok_lightning.data import ModularArithmeticDataModule
    from grok_lightning.errors import UserError
    from grok_lightning.experiment import Experiment
    from grok_lightning.module import GrokModule
    from grok_lightning.records.results import read_records
    from grok_lightning.run import Run, load_run

__all__ = ["Experiment", "GrokModule", "ModularArithmeticDataModule", "Run", "UserError", "load_run", "read_records"]

_PLACES = {
    "Experiment": "experiment",
    "GrokModule": "module",
    "ModularArithmeticDataModule": "data",
    "Run": "run",
    "UserError": "errors",
    "load_run": "run",
    "read_records": "records.results",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def _load_module(*arguments: Any, **options: Any) -> Any:
    return import_module(f"{__name__}.run").load_module(*arguments, **options)


provided.load_module = _load_module


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
