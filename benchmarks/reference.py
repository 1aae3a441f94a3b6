"""Cuts reference models out of runs of the reproductions, with a card each: ``python benchmarks/reference.py NAME...``.

Needs the runs' checkpoints; ``make reproduce`` makes them.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from grok_lightning.records.checkpoint import CONFIG_KEY, load, save, without_training_state
from grok_lightning.records.results import read_records

HOME = Path(__file__).parents[1]
SHIPPED = HOME / "checkpoints" / "reference"
SPLITS = {"train": "training", "val": "validation"}


class Reference(NamedTuple):
    """One model: which run it is, what it shows, and what to ask it."""

    name: str
    experiment: str
    where: dict[str, object]
    shows: str
    source: str
    prompts: tuple[str, ...]


REFERENCES = (
    Reference(
        "addition", "addition-fractions", {"data.train_fraction": 0.5, "seed_everything": 0},
        "A one-layer transformer that grokked x + y mod 97", "arXiv 2201.02177 (settings ours)", ("91+7=", "50+50="),
    ),
    Reference(
        "division", "division-fractions", {"data.train_fraction": 0.5, "seed_everything": 0},
        "A two-layer transformer that grokked x / y mod 97 after the long plateau", "arXiv 2201.02177 (settings ours)",
        ("91/7=", "1/2="),
    ),
    Reference(
        "lstm", "equal-models", {"model.network.class_path": "LSTM", "seed_everything": 1},
        "An LSTM that learned the rule of x + y mod 97 at the transformer's settings", "against arXiv 2412.10898",
        ("91+7=",),
    ),
    Reference(
        "blog-subtraction", "blog-functions-ours", {"data.formula": "x - y", "seed_everything": 0},
        "A two-layer transformer that grokked x - y over signed remainders, from which the fine-tuning of "
        "docs/science/reproductions.md begins", "the blog's task (settings ours)", ("5-9=",),
    ),
    Reference(
        "progress-measures", "progress-measures", {"seed_everything": 0},
        "A one-layer transformer without norms whose Fourier circuit the progress measures follow", "arXiv 2301.05217",
        ("50 70",),
    ),
)  # fmt: skip


def main() -> int:
    """Writes those whose run is there."""
    parser = argparse.ArgumentParser(description="Cuts reference models out of runs of the reproductions.")
    parser.add_argument("names", nargs="*", help="Which; default: all.")
    names = parser.parse_args().names
    if unknown := set(names) - {each.name for each in REFERENCES}:
        parser.error(f"no such models: {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(each.name for each in REFERENCES)}")  # fmt: skip
    SHIPPED.mkdir(parents=True, exist_ok=True)
    for each in REFERENCES:
        if names and each.name not in names:
            continue
        logs = HOME / "lightning_logs" / each.experiment
        found = chosen(read_records(logs), each.where) if logs.is_dir() else None
        if found is None:
            print(f"{each.name}: no run of {each.experiment} with {each.where}", file=sys.stderr)
            continue
        path = HOME / "checkpoints" / each.experiment / Path(found["path"]).name / "last.ckpt"
        checkpoint = without_training_state(load(path))
        config = checkpoint[CONFIG_KEY]
        config["trainer"]["default_root_dir"] = None
        config["experiment"], config["run"] = "reference", each.name
        save(checkpoint, SHIPPED / f"{each.name}.ckpt")
        (SHIPPED / f"{each.name}.md").write_text(card(each, found, config), encoding="utf-8", newline="\n")
        print(f"{each.name}: {(SHIPPED / f'{each.name}.ckpt').stat().st_size / 1e6:.1f} MB")
    return 0


def chosen(runs: pd.DataFrame, where: dict[str, object]) -> pd.Series | None:
    """The run of these options; class names may be bare."""
    for option, value in where.items():
        column = runs[f"config.{option}"]
        runs = runs[column.astype(str).str.endswith(str(value)) if isinstance(value, str) else column == value]
    return runs.iloc[0] if len(runs) else None


def card(each: Reference, run: pd.Series, config: dict[str, object]) -> str:
    """What a user must know about a model, from its record."""
    data, model = config["data"], config["model"]
    assert isinstance(data, dict)
    assert isinstance(model, dict)
    network = {key: value for key, value in model["network"].items() if value is not None}
    if network.get("norm") == "none":
        del network["normalization"]
    name = network.pop("class_path").rsplit(".", 1)[-1]
    optimizer = dict(model["optimizer"])
    optimizer_name = optimizer.pop("class_path").rsplit(".", 1)[-1]
    asked = " ".join(f'"{prompt}"' for prompt in each.prompts)
    steps = f"{run['steps']:,} steps in {run['seconds']:.0f} s on {run['device']}"
    accuracies = ", ".join(f"{word} accuracy {run[f'final.{split}/acc']:.4%}" for split, word in SPLITS.items())
    facts = {
        "Task": f"{data['formula']} mod {data['modulus']}; {data['train_fraction']:g} of the table trains "
        f"(seed {config['seed_everything']}).",
        "Model": f"{name}, {_told(network)}.",
        "Trained": f"with {optimizer_name}, {_told(optimizer)}, batch {data['batch_size']}, {run['precision']}, "
        f"{steps}.",
        "Result": f"memorized at step {run['memorize_step']:,}, grokked at step {run['grok_step']:,} (evaluated before "
        f"at {run['grok_after']:,}); at the end {accuracies}.",
        "After": f"{each.source}. Made by `python benchmarks/reference.py` from the run `{Path(run['path']).name}` of "
        f"`grok-lightning sweep {each.experiment}`.",
        "Not for": "anything but this table. Weights only: it answers, is evaluated (`validate`, `predict`) and can be "
        "started from (`fit --init_from`), but not resumed.",
    }
    parts = [
        f"# {each.name}",
        f"{each.shows}.",
        f"    grok-lightning generate checkpoints/reference/{each.name}.ckpt {asked}",
    ]
    return "\n\n".join([*parts, "\n".join(f"- **{word}**: {fact}" for word, fact in facts.items())]) + "\n"


def _told(options: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


if __name__ == "__main__":
    sys.exit(main())
