"""The help of every command: all options of ours, one line each, with their real types, defaults and values."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from grok_lightning.options.classes import CLASS_OPTIONS, LIST_OPTIONS, NAMING, class_arguments, class_names, class_path
from grok_lightning.options.lines import WIDTH, first_sentence
from grok_lightning.options.parser import LINKED
from grok_lightning.records.record import flatten

Command = Callable[..., tuple[int, str, str]]
OPTION = re.compile(r"  --(\S+) +(.*)")
TEXT = 50  # the column in which texts begin
EVALUATED = {"config", "experiment", "run", "ckpt_path", "trust", "print_config"} | {
    f"trainer.{name}" for name in ("default_root_dir", "enable_progress_bar", "precision", "accelerator")
}
CLASSES = [
    (option, name)
    for option in NAMING
    for name in class_names(option)
    if class_path(option, name).startswith("grok_lightning.")
]


@pytest.fixture
def ended(command: Command, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command that ends the program well prints."""

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            command(*words)
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


def lines_of(printed: str) -> dict[str, str]:
    """The line of each option."""
    return {found[1]: line for line in printed.splitlines() if (found := OPTION.match(line))}


def leaves(hint: Any) -> Iterator[Any]:
    yield hint
    if get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from leaves(inner)


def test_the_help_of_fit_lists_every_option_of_ours(ended: Callable[..., str]) -> None:
    """Those of a resolved config, which nothing of the help has part in."""
    listed = set(lines_of(ended("fit", "--help")))
    resolved = flatten(yaml.safe_load(ended("fit", "--print_config")))
    ours = {name.removesuffix(".class_path") for name in resolved if not name.startswith("trainer.")}
    ours |= {"model.scheduler", "config", "ckpt_path", "init_from", "trust", "overwrite", "print_config"}
    assert {name for name in listed if not name.startswith("trainer.")} == ours
    assert {"trainer.max_steps", "trainer.precision", "trainer.accelerator", "trainer.devices"} < listed
    assert not {f"model.{name}" for name in LINKED} & listed


@pytest.mark.parametrize(
    ("subcommand", "more"), [("validate", {"measures"}), ("test", set()), ("predict", {"split", "output"})]
)
def test_the_help_of_an_evaluation_lists_what_it_takes_beside_a_checkpoint(
    ended: Callable[..., str], subcommand: str, more: set[str]
) -> None:
    assert set(lines_of(ended(subcommand, "--help"))) == EVALUATED | more


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_every_option_has_one_line_and_columns_are_aligned(ended: Callable[..., str], subcommand: str) -> None:
    printed = ended(subcommand, "--help")
    assert ended(subcommand, "--config", "addition", "-h") == printed
    assert max(map(len, printed.splitlines())) <= WIDTH
    for name, line in lines_of(printed).items():
        assert printed.count(f"  --{name} ") == 1
        if name not in CLASS_OPTIONS:
            assert line[TEXT - 1] == " "
            assert line[TEXT] != " "
            assert line.endswith(".")
    assert f"  grok-lightning {subcommand} " in printed
    assert "--help-all" in printed


def test_defaults_are_those_of_a_resolved_config(ended: Callable[..., str]) -> None:
    resolved = flatten(yaml.safe_load(ended("fit", "--print_config")))
    resolved |= {"threads": "auto", "trainer.enable_progress_bar": None, "overwrite": False, "trust": False}
    for name, line in lines_of(ended("fit", "--help")).items():
        if name in CLASS_OPTIONS and not CLASS_OPTIONS[name].default:
            assert f"{name}.class_path" not in resolved
        elif name in CLASS_OPTIONS:
            assert resolved[f"{name}.class_path"].endswith(f".{line.split()[-1]}")
        elif name in resolved and name not in LIST_OPTIONS and name != "run":
            kind, _, default = line[len(f"  --{name}") : TEXT].strip().partition(" = ")
            if resolved[name] is None or name == "experiment":
                assert not default
                assert kind in ("int", "float", "bool", "str", "list")
            else:
                value, written = resolved[name], default or kind
                number = isinstance(value, int | float) and not isinstance(value, bool)
                assert (float(written) if number else yaml.safe_load(written)) == value
                assert not default or type(value).__name__ in kind.split("|") or str(value) in line[TEXT:]


def test_every_value_of_a_choice_stands_in_its_line(ended: Callable[..., str]) -> None:
    lines = lines_of(ended("fit", "--help"))
    choices = 0
    for option in CLASS_OPTIONS:
        default = CLASS_OPTIONS[option].default
        for argument in class_arguments(option, class_path(option, lines[option].split()[-1]) if default else ""):
            for hint in leaves(argument.hint):
                for value in get_args(hint) if get_origin(hint) is Literal else ():
                    choices += 1
                    assert re.search(rf"\b{value}\b", lines[f"{option}.{argument.name}"][TEXT:])
    assert choices > 25
    assert lines["model.loss"].endswith("cross_entropy, stablemax, mse.")
    assert lines["checkpoint.keep"].endswith("none, grok, last.")


def test_options_of_ours_come_in_groups(ended: Callable[..., str]) -> None:
    headings = re.findall(r"^(\w.*):$", ended("fit", "--help"), re.MULTILINE)
    assert headings == [
        *("Run", "Data", "Model", "Network", "Optimizer", "Gradient filters", "Constraints"),
        "Budget, precision and device",
        *("Evaluation", "Checkpoints", "Measures", "Example"),
    ]


def test_every_class_of_ours_is_named(ended: Callable[..., str]) -> None:
    printed = ended("fit", "--help")
    for option, name in CLASSES:
        assert re.search(rf"\b{name}\b", printed[printed.index(f"  --{option} ") :]), name


@pytest.mark.parametrize("words", ["--help-all", "--help_all"])
def test_the_whole_help_has_the_options_of_the_trainer_too(ended: Callable[..., str], words: str) -> None:
    whole, short = ended("fit", words), ended("fit", "--help")
    for name in ("--trainer.strategy", "--trainer.gradient_clip_val", "--model.warmup", "--evaluation.every"):
        assert name in whole
    assert "--trainer.strategy" not in short
    assert len(short) < len(whole) / 3


@pytest.mark.parametrize(("option", "name"), CLASSES)
def test_the_options_of_a_class_are_told_in_sentences(option: str, name: str) -> None:
    for argument in class_arguments(option, class_path(option, name)):
        assert argument.help.rstrip().endswith("."), argument.name
        assert 2 < len(first_sentence(argument.help)) <= WIDTH - TEXT, argument.name


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        (
            "sweep",
            "FILES...",
            "dry_run workers stack_size executor shard keep events known max_steps retry_failed trust root",
        ),
        ("report", "EXPERIMENTS...", "by out title root ckpt_path trust"),
        ("forecast", "EXPERIMENTS...", "at forecaster refit output root"),
        ("generate", "CHECKPOINT PROMPTS...", "temperature top_k max_new_tokens seed trust"),
        ("inspect", "CHECKPOINT", "output checkpoints overwrite trust"),
    ],
)
def test_the_help_of_other_commands_looks_alike(
    ended: Callable[..., str], name: str, arguments: str, options: str
) -> None:
    printed = ended(name, "--help")
    assert ended(name, "x", "-h") == printed
    assert printed.startswith(f"usage: grok-lightning {name} {arguments} [--option value ...]\n\n")
    assert max(map(len, printed.splitlines())) <= WIDTH
    lines = lines_of(printed)
    assert list(lines) == options.split()
    texts = [
        re.fullmatch(r"  --\w+ +(?:int|float|bool|str)(?: \.\.\.| = \S+)?  +(\S.+\.)", line) for line in lines.values()
    ]
    assert all(texts)
    assert len({text.start(1) for text in texts if text}) == 1  # aligned
    assert re.findall(r"^(\w.*):$", printed, re.MULTILINE) == ["Arguments", "Options", "Example"]
    assert f"\n  grok-lightning {name} " in printed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Rows per step. More,\nof it.", "Rows per step."),
        ("At 0.5, ``full``\nor so; 2. More", "At 0.5, full or so; 2."),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_the_first_sentence_of_a_text(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence
