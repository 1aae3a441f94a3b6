"""The splits of a run as files, without training: ``data --config NAME --output FOLDER``."""

from pathlib import Path
from typing import Any

from grok_lightning.build import build_data, seeds_of
from grok_lightning.data.split_files import SPLITS, write_splits
from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.aliases import naming
from grok_lightning.options.parsing import resolve_data
from grok_lightning.records.record import write_json
from grok_lightning.records.tasks import task_title

SUMMARY = "splits.json"


def data_command(arguments: list[str]) -> int:
    """Runs ``data``: writes the splits that ``fit`` would train on with the same options.

    Args:
        arguments: What follows ``data`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If an option is not accepted, or files of splits are there already.
    """
    typed: dict[str, str] = {}
    options, output, overwrite = resolve_data(arguments, typed)
    directory = Path(output)
    refuse_unwritable("output", directory)
    there = [name for name in (*(f"{split}.csv" for split in SPLITS), SUMMARY) if (directory / name).exists()]
    if there and not overwrite:
        raise UserError(
            f"--output is {output!r}, where {there[0]} exists already; name another folder, or add --overwrite"
        )
    with naming(typed):
        data = build_data(options["data"], seeds_of(options))
    data.check_repeatable()
    counts = write_splits(data, directory)
    title = task_title(options["data"], data.title)
    summary: dict[str, Any] = {"task": title, "counts": counts, "columns": list(data.columns)}
    summary |= {"commutative_fraction": data.splits[0].commutative_fraction}
    write_json(directory / SUMMARY, summary | {"seed_everything": options["seed_everything"], "data": options["data"]})
    for note in data.notes:
        print(note)
    rows = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS)
    print(f"{title}: {rows} rows in {directory!s}")
    return 0
