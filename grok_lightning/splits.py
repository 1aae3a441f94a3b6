"""The splits of a run as files, without training: ``data --config NAME --output FOLDER``."""

from pathlib import Path
from typing import Any

from grok_lightning.build import build_data, seeds_of
from grok_lightning.data import SequenceDataModule
from grok_lightning.data.split_files import SPLITS, write_splits
from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.options.aliases import naming
from grok_lightning.options.parsing import resolve_data
from grok_lightning.records.record import write_json
from grok_lightning.records.tasks import task_title

SUMMARY, PICTURE = "splits.json", "split.png"
DOTS_PER_INCH = 150


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
    names = (*(f"{split}.csv" for split in SPLITS), SUMMARY, PICTURE)
    there = [name for name in names if (directory / name).exists()]
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
    print(f"{title}: {data.describe_counts()}")
    print(f"files: {directory!s}")
    print(_draw(data, f"{title}, seed {options['seed_everything']}", directory / PICTURE))
    return 0


def _draw(data: SequenceDataModule, title: str, path: Path) -> str:
    """Draws the split as a map, where the table has one, and says so; an earlier picture does not stay."""
    # imported here: with them come pandas and matplotlib
    from grok_lightning.callbacks.pictures import task_table
    from grok_lightning.figures.elements import NothingToShow
    from grok_lightning.figures.saving import png
    from grok_lightning.figures.task import draw_split

    try:
        figure = draw_split(task_table(data), f"Split\n{title}")
    except NothingToShow as reason:
        path.unlink(missing_ok=True)
        return f"no picture: {reason}"
    write_durably(path, png(figure, DOTS_PER_INCH))
    return f"picture: {path!s}"
