"""The rules of the speedrun, and whether an entry keeps them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import Nested, lookup

ARITHMETIC, PERMUTATIONS = (f"grok_lightning.data.{name}DataModule" for name in ("ModularArithmetic", "Permutation"))
TRANSFORMER = "grok_lightning.models.Transformer"
THRESHOLD, STABLE = 0.99, 0.95
NEEDED = 3  # evaluations at the threshold after which a run is over
OPEN = ("grok_lightning.", "lightning.", "torch.")  # whose constraints, measures and the like may be used
SEES_ANSWERS = ("trainer", "measures", "model.constraints")
TIMED_BY_EVALUATIONS = ("memorized", "grokked")  # moments of interventions
SHAPED = ("batch_size", "operator_token", "equals_token")  # what an entry chooses of its data


@dataclass(frozen=True)
class Rules:
    """What a verification asks of an entry.

    Attributes:
        tasks: Options of the data of each task: class, formula and size.
        most_parameters: Largest number of parameters, trained or not, buffers included.
        runs: Runs of each task.
        after: Steps after which accuracy is looked at again; 0 for none.
    """

    tasks: tuple[Nested, ...] = (
        {"class_path": ARITHMETIC, "formula": "x + y", "modulus": 97},
        {"class_path": ARITHMETIC, "formula": "x / y", "modulus": 97},
        {"class_path": PERMUTATIONS, "formula": "x * y", "degree": 5},
    )
    most_parameters: int = 5_000_000
    runs: int = 10
    after: int = 10_000

    @property
    def required(self) -> Nested:
        """The options that an entry must have, by dotted name."""
        free = ("train_rows", "val_fraction", "operands", "rows", "split_seed", "commutative_fraction", "splits")
        first = self.tasks[0]
        return {
            "data.class_path": first["class_path"],
            "data.modulus": first["modulus"],
            "data.train_fraction": 0.5,
            "data.pairing": "free",
            "data.answer_noise": 0,
            "data.tokenizer": "elements",
            **dict.fromkeys((f"data.{name}" for name in (*free, "numbering_seed")), None),
            "init_from": None,
        }

    def check_options(self, options: Nested) -> None:
        """Check an entry's own options.

        Args:
            options: Its resolved options, in the short form.

        Raises:
            UserError: One breaks a rule.
        """
        for option, wanted in self.required.items():
            value = lookup(options, option)
            if value != wanted:
                broken = f"--{option.removesuffix('.class_path')} is {show(value)}"
                raise UserError(f"{broken}; the speedrun's rules ask for {show(wanted)}")
        for name in _classes_in(lookup(options, "trainer.callbacks")):
            raise UserError(
                f"--trainer.callbacks has {show(name)}; a callback can train, stop or read answers, and by the "
                "speedrun's rules an entry has none"
            )
        for option in SEES_ANSWERS:
            for name in _classes_in(lookup(options, option)):
                if not name.startswith(OPEN):
                    raise UserError(
                        f"--{option} names {show(name)}, which could see the answers or change weights; by the "
                        "speedrun's rules only a network, an optimizer, a scheduler and filters may be your own"
                    )
        for change in lookup(options, "model.interventions") or []:
            if change.get("at") in TIMED_BY_EVALUATIONS:
                raise UserError(
                    f"--model.interventions has one at {show(change['at'])}, a moment that evaluations decide; by the "
                    "speedrun's rules it is a step, such as 500"
                )
        schedule = lookup(options, "model.schedule")
        if self.after and schedule != "constant":
            raise UserError(
                f"--model.schedule is {show(schedule)}, which ends with the budget, so nothing can be said of "
                f"{self.after:,} steps later; use --after 0, or model.scheduler"
            )

    def build_data(self, task: Nested, options: Nested, numbering_seed: int) -> Nested:
        """The options of a task's data: what the entry chooses, and symbols that are numbered anew."""
        chosen = {name: lookup(options, f"data.{name}") for name in SHAPED}
        return task | chosen | {"numbering_seed": numbering_seed}


def _classes_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _classes_in(inner)
