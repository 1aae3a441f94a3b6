"""Options of a run that TensorBoard's HPARAMS tab shows."""

from typing import Any

from grok_lightning.options.config import RecordedRun
from grok_lightning.options.parsing import defaults_of
from grok_lightning.records.planned import CONFIG, read_planned
from grok_lightning.records.record import NOT_RESULTS, counted_options, flatten
from grok_lightning.records.words import format_option

# shown at their defaults too, so that runs can be compared
COMPARED = (
    *("data.formula", "data.modulus", "data.train_fraction", "data.batch_size", "seed_everything", "trainer.max_steps"),
    *("model.network.class_path", "model.network.layers", "model.network.width"),
    *("model.optimizer.class_path", "model.optimizer.lr", "model.optimizer.weight_decay"),
)


def shown_options(run: RecordedRun) -> dict[str, int | float | str]:
    """Options of a run that differ from their defaults, or between the runs of its sweep, or that are always compared.

    Args:
        run: The run.

    Returns:
        Numbers as they are and all else as text, by dotted name; a class by its bare name.
    """
    counted = run.counted
    if counted is None:
        counted = counted_options(run.config, defaults_of(run.config), NOT_RESULTS)
    planned = read_planned(run.logs.parent)
    varied = set() if planned is None else {str(column) for column in planned}
    found = {}
    for key, value in flatten(run.config).items():
        if f"{CONFIG}{key}" in varied or (value is not None and (key in COMPARED or key in counted)):
            found[key.removesuffix(".class_path")] = _show(key, value)
    return found


def _show(key: str, value: Any) -> int | float | str:
    if key.endswith(".class_path"):
        return str(value).rpartition(".")[2]
    return value if isinstance(value, int | float) and not isinstance(value, bool) else format_option(value)
