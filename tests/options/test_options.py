"""Options: what was given, in whatever form and order, means one thing."""

from itertools import permutations
from pathlib import Path

import pytest
import yaml
from options_as_given import config_file, given

from grok_lightning.options.arguments import given_options, split_arguments
from grok_lightning.options.merging import complete, plain
from grok_lightning.options.shipped import find_config, shipped_configs

TIMER, SUMMARY = (f"lightning.pytorch.callbacks.{name}" for name in ("Timer", "ModelSummary"))
ARGUMENTS = [
    (["--data.modulus", "7"], {"data": {"modulus": "7"}}),
    (["--data.modulus=7"], {"data": {"modulus": "7"}}),
    (["--data.formula=x == y"], {"data": {"formula": "x == y"}}),
    (["--data.init_args.modulus", "7"], {"data": {"modulus": "7"}}),
    (["--ckpt-path", "a-b"], {"ckpt_path": "a-b"}),
    (["--trainer.max_steps=-1"], {"trainer": {"max_steps": "-1"}}),
    (["--trainer.max-steps", "-1"], {"trainer": {"max_steps": "-1"}}),
    (["--run="], {"run": ""}),
    (["--run", "1", "--run", "2"], {"run": "2"}),
    (["--overwrite"], {"overwrite": "true"}),
    (["--overwrite", "--run", "1"], {"overwrite": "true", "run": "1"}),
    (["--overwrite", "false"], {"overwrite": "false"}),
    (["--checkpoint.steps+=5", "--checkpoint.steps+", "9"], {"checkpoint": {"steps": ["5", "9"]}}),
    (
        ["--trainer.callbacks+=Timer", "--trainer.callbacks.verbose=1", "--trainer.callbacks+=ModelSummary"],
        {"trainer": {"callbacks": [{"class_path": TIMER, "verbose": "1"}, {"class_path": SUMMARY}]}},
    ),
    ([], {}),
]


def test_arguments_as_nested_options() -> None:
    for arguments, expected in ARGUMENTS:
        assert given(*arguments) == expected


def test_the_order_of_a_class_and_its_options_does_not_matter() -> None:
    pairs = [("--data", "PermutationDataModule"), ("--data.degree", "4"), ("--data.formula", "x * y")]
    found = [given(*(word for pair in order for word in pair)) for order in permutations(pairs)]
    assert found == [
        {"data": {"class_path": "grok_lightning.data.PermutationDataModule", "degree": "4", "formula": "x * y"}}
    ] * len(found)


@pytest.mark.parametrize("named", ["--model.optimizer", "--model.optimizer.class_path", "--model.optimizer.class-path"])
def test_a_class_is_named_by_its_class_path_too_in_either_order(named: str) -> None:
    expected = {"model": {"optimizer": {"class_path": "grok_lightning.optim.Muon", "lr": "3"}}}
    assert given(named, "Muon", "--model.optimizer.lr", "3") == expected
    assert given("--model.optimizer.lr", "3", named, "Muon") == expected


def test_an_option_of_any_named_class_goes_to_that_class_in_either_order() -> None:
    named, option = "--trainer.logger=CSVLogger", "--trainer.logger.prefix=1"
    expected = {"trainer": {"logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "prefix": "1"}]}}
    assert given(named, option) == expected
    assert given(option, named) == expected


def test_the_command_line_wins_over_later_files_over_earlier_files(tmp_path: Path) -> None:
    first = config_file(tmp_path, {"run": "a", "experiment": "a", "data": {"modulus": 5, "formula": "x"}})
    second = config_file(tmp_path, {"run": "b", "data": {"modulus": 7}})
    words = [("--run=c",), ("--config", first), (f"-c={second}",)]
    for order in permutations(words):
        assignments, configs = split_arguments([word for group in order for word in group])
        found = given_options(assignments, configs)
        late_first = order.index(words[1]) > order.index(words[2])
        assert found["run"] == "c"
        assert found["data"] == {"modulus": 5 if late_first else 7, "formula": "x"}
        assert found["experiment"] == "a"
        assert list(map(str, configs)) == ([second, first] if late_first else [first, second])


def test_items_are_added_to_the_list_of_a_file(tmp_path: Path) -> None:
    listed = config_file(tmp_path, {"trainer": {"callbacks": ["Timer"]}})
    both = [{"class_path": TIMER}, {"class_path": SUMMARY}]
    assert given("--trainer.callbacks+=ModelSummary", "--config", listed) == {"trainer": {"callbacks": both}}


def test_options_meet_across_files_and_command_line_whatever_names_the_class(tmp_path: Path) -> None:
    named, option = (
        config_file(tmp_path, {"model": {"optimizer": {"class_path": "SGD", "momentum": 0.5}}}),
        "--model.optimizer.lr=3",
    )
    expected = {"class_path": "torch.optim.SGD", "momentum": 0.5, "lr": "3"}
    assert given("--config", named, option)["model"]["optimizer"] == expected
    assert given("--config", named, option, "--model.optimizer=SGD")["model"]["optimizer"] == expected
    assert given("--config", named, option, "--model.optimizer=Adam")["model"]["optimizer"] == {
        "class_path": "torch.optim.Adam",
        "lr": "3",
    }


def test_a_shipped_config_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, path in shipped_configs().items():
        spelled = (name, f"{name}.yaml", f"configs/{name}.yaml", str(path))
        assert {find_config(spelling) for spelling in spelled} == {path}
        Path(f"{name}.yaml").parent.mkdir(exist_ok=True)
        Path(f"{name}.yaml").write_text("run: mine")
        assert find_config(f"{name}.yaml") == Path(f"{name}.yaml"), "a user's own file comes first"


def test_completing_twice_adds_nothing() -> None:
    whole = complete({"data": {"modulus": 5}})
    assert complete(whole) == whole
    assert whole["data"]["modulus"] == 5


def test_plain_values_can_be_written_anywhere() -> None:
    found = plain({"path": Path("a/b"), 3: (1, 2.5, None, True), "set": {7}, "nested": {"list": [Path("c")]}})
    assert found == {
        "path": "a/b",
        "3": [1, 2.5, None, True],
        "set": [7],
        "nested": {"list": ["c"]},
    }
    assert yaml.safe_load(yaml.safe_dump(found)) == found
    assert plain(found) == found
