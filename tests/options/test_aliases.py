"""Short names and the field's words for options: one rule on the command line, in YAML, in sweeps and in Python."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from options_as_given import given

from grok_lightning import Experiment
from grok_lightning.errors import UserError
from grok_lightning.options.aliases import ANSWERS, WORDS, Names, naming
from grok_lightning.options.arguments import given_options
from grok_lightning.options.classes import CLASS_OPTIONS, class_path, lookup
from grok_lightning.options.parsing import resolve
from grok_lightning.sweep.file import read_grid

Command = Callable[..., tuple[int, str, str]]
CLASSES = {  # with which each option of a class exists
    "data.strings": {"data": "TextDataModule"},
    "model.network.hidden": {"model.network": "LSTM"},
}


def names_for(option: str) -> Names:
    named = CLASSES.get(option, {})
    return Names({owner: [class_path(owner, name)] for owner, name in named.items()})


@pytest.mark.parametrize("option", WORDS)
def test_every_word_is_its_option_alone_and_below_each_part_of_the_path(option: str) -> None:
    names, parents = names_for(option), option.split(".")[:-1]
    assert names.find(option) == option
    for word in WORDS[option].split():
        for above in ([], parents, parents[:1], parents[1:]):
            written = ".".join([*above, word])
            assert names.find(written) == option, written
            assert names.find(f"{written}+") == f"{option}+"


def test_words_do_not_stand_in_the_way_of_options() -> None:
    known = Names({owner: [] for owner in CLASS_OPTIONS})
    for words in WORDS.values():
        for word in words.split():
            assert word not in ANSWERS
            if all(option in CLASSES for option, others in WORDS.items() if word in others.split()):
                with pytest.raises(UserError, match=rf"--{word} stands for \S+, which \w+ does not have"):
                    known.find(word)
            else:
                assert known.find(word) in WORDS


def test_every_answer_names_options_that_exist(command: Command) -> None:
    for word, answer in ANSWERS.items():
        status, out, err = command("fit", f"--{word}", "3")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"grok-lightning: --{word} '3' ")
        for option in re.findall(r"--([a-z_.]+)", answer("3")):
            assert Names({}).find(option) == option or option.startswith("model.filters."), option
    assert not list(Path().iterdir())


CONVERTED = {
    "training_data": ("50", "--data.train_fraction 0.5"),
    "train_data_pct": ("30", "--data.train_fraction 0.3"),
    "num_epochs": ("5000", "--data.batch_size full --trainer.max_steps 5000"),
    "dtype": ("torch.bfloat16", "--trainer.precision bf16-mixed"),
    "grad_clip": ("1.5", "--model.filters Clip --model.filters.norm 1.5"),
    "beta2": ("0.95", '--model.optimizer.betas "[0.9, 0.95]"'),
    "test_fraction": ("0.2", "--data.train_fraction 0.5 --data.val_fraction 0.3"),
}


@pytest.mark.parametrize("word", CONVERTED)
def test_an_answer_has_the_value_converted(word: str) -> None:
    value, expected = CONVERTED[word]
    for written in (value, float(value) if re.fullmatch(r"[\d.]+", value) else value):
        with pytest.raises(UserError, match=re.escape(expected.split()[0])) as answered:
            Names({}).find(word, written)
        assert expected in str(answered.value).replace("5000.0", "5000").replace("50.0", "50")


WRITTEN: dict[str, Any] = {
    "data.p": 13,
    "operation": "division",
    "frac_train": 0.4,
    "model.n_layer": 1,
    "n_head": 2,
    "d_model": 16,
    "optim": "Muon",
    "optim.lr": 0.01,
    "wd": 0.3,
    "batch_size": 32,
    "num_steps": 7,
    "seed": 5,
}
CANONICAL: dict[str, Any] = {
    "data.modulus": 13,
    "data.formula": "x / y",
    "data.train_fraction": 0.4,
    "model.network.layers": 1,
    "model.network.heads": 2,
    "model.network.width": 16,
    "model.optimizer": "Muon",
    "model.optimizer.lr": 0.01,
    "model.optimizer.weight_decay": 0.3,
    "data.batch_size": 32,
    "trainer.max_steps": 7,
    "seed_everything": 5,
}


def test_all_ways_give_the_config_that_whole_names_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = {"experiment": "e", "run": "r", "trainer.precision": "32-true", "threads": 1}
    whole = Experiment(**fixed, **CANONICAL).config
    assert Experiment(**fixed, **WRITTEN).config == whole
    assert Experiment(**fixed, **{name.replace(".", "__"): value for name, value in WRITTEN.items()}).config == whole
    Path("c.yaml").write_text(yaml.safe_dump(fixed | WRITTEN, sort_keys=False), encoding="utf-8")
    assert resolve(["fit", "--config", "c.yaml"]).options == whole
    words = [word for name, value in (fixed | WRITTEN).items() for word in (f"--{name}", str(value))]
    assert resolve(["fit", *words]).options == whole
    nested = {"data": {"p": 13, "op": "a/b"}, "model": {"n_layers": 1, "optimizer": {"class_path": "Muon", "wd": 0.3}}}
    Path("d.yaml").write_text(yaml.safe_dump(fixed | nested), encoding="utf-8")
    found = resolve(["fit", "--config", "d.yaml", "--num_heads", "2"]).options
    assert (found["data"]["modulus"], found["data"]["formula"]) == (13, "x / y")
    assert (found["model"]["network"]["layers"], found["model"]["optimizer"]["weight_decay"]) == (1, 0.3)
    assert not {"p", "op"} & found["data"].keys()


def test_a_sweep_takes_them_in_every_place(write_yaml: Callable[..., Path]) -> None:
    write_yaml({"optimizer": {"wd": 0.1}}, "base.yaml")
    short = {
        "base": "base.yaml",
        "set": {"lr": 0.01, "model": {"mask_first_n": 1}, "max_iters": 9},
        "grid": {"p": [7, 11], "data.operation": ["division", "a - b"]},
        "zip": {"seed": "0..1", "network": ["Transformer", {"class_path": "LSTM", "hidden_dim": 8}]},
        "exclude": [{"p": 7, "operation": "subtraction"}],
    }
    whole = {
        "base": "base.yaml",
        "set": {"model.optimizer.lr": 0.01, "model.mask_first_n": 1, "trainer.max_steps": 9},
        "grid": {"data.modulus": [7, 11], "data.formula": ["x / y", "x - y"]},
        "zip": {"seed_everything": "0..1", "model.network": ["Transformer", {"class_path": "LSTM", "hidden": 8}]},
        "exclude": [{"data.modulus": 7, "data.formula": "x - y"}],
    }
    found, expected = read_grid(write_yaml(short, "s.yaml")), read_grid(write_yaml(whole, "t.yaml"))
    assert (found.options, found.points, found.fixed) == (expected.options, expected.points, expected.fixed)
    assert lookup(found.fixed, "model.optimizer.weight_decay") == 0.1


def test_mappings_on_the_command_line_and_dashes_in_files_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {init_args: {op: a*b, frac-train: 0.3}}\nmodel.network.init_args.num-heads: 2\n")
    expected = {"data": {"formula": "a*b", "train_fraction": 0.3}, "model": {"network": {"heads": 2}}}
    assert given("--config", str(path)) == expected
    found = given("--data", "{class_path: TextDataModule, text: so}", "--optim", "{class_path: Muon, wd: 0.3}")
    assert found["data"] == {"class_path": "grok_lightning.data.TextDataModule", "strings": "so"}
    assert found["model"]["optimizer"] == {"class_path": "grok_lightning.optim.Muon", "weight_decay": 0.3}
    with pytest.raises(UserError, match=r"--data gives data\.modulus twice, 5 and 3"):
        given("--data", "{class_path: ModularArithmeticDataModule, p: 3, modulus: 5}")


def test_later_ones_win_whatever_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("data: {p: 7}\n", encoding="utf-8")
    Path("b.yaml").write_text("data.modulus: 11\n", encoding="utf-8")
    for arguments, modulus in (
        (["--config", "a.yaml", "--config", "b.yaml"], 11),
        (["--config", "b.yaml", "--config", "a.yaml"], 7),
        (["--config", "a.yaml", "--data.modulus", "13"], "13"),
        (["--config", "b.yaml", "--p", "13"], "13"),
        (["--p", "13", "--p", "19"], "19"),
        (["--p", "13", "--modulus", "13", "--data.prime", "13"], "13"),
    ):
        assert given(*arguments)["data"] == {"modulus": modulus}


REFUSED = [
    (["--data.p", "abc"], "--data.p (data.modulus) is 'abc'; expected: an integer"),
    (["--frac_train", "1.5"], "frac_train (data.train_fraction) is 1.5; it must lie between 0 and 1"),
    (["--p", "6", "--op", "division"], "p (data.modulus) is 6 = 2 * 3"),
    (["--lr"], "--lr (model.optimizer.lr) needs a value"),
    (["--every", "3"], "--every could be checkpoint.every or evaluation.every"),
    (["--trainer.wd", "3"], "--trainer.wd is no option; did you mean --model.optimizer.weight_decay?"),
    (["--network", "MLP", "--n_layers", "3"], "--n_layers stands for model.network.layers, which MLP does not have"),
    (["--data", "PermutationDataModule", "--p", "5"], "data.modulus, which PermutationDataModule does not have"),
    (["--LR", "abc"], "--LR (model.optimizer.lr) is 'abc'"),
    (["--optimizer", "sgd"], "'sgd', which does not exist; did you mean SGD?"),
    (["--operation", "divison"], "--operation (data.formula) is 'divison'; did you mean division?"),
    (["--data.formula", "(a*b) % 113"], '--data.formula "x * y" --data.modulus 113'),
    (["--formula", "S5"], '--data PermutationDataModule --data.degree 5 --data.formula "x * y"'),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_a_mistake_names_what_was_typed(command: Command, arguments: list[str], said: str) -> None:
    status, out, err = command("fit", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not list(Path().iterdir())


def test_one_option_under_two_names_in_a_file_is_refused(command: Command, write_yaml: Callable[..., Path]) -> None:
    write_yaml("data: {p: 7, modulus: 11}\n", "c.yaml")
    assert "gives data.modulus twice, 11 and 7; leave one out" in command("fit", "--config", "c.yaml")[2]
    write_yaml({"grid": {"p": [7], "data.modulus": [7]}}, "s.yaml")
    assert "data.modulus is given twice in grid" in command("sweep", "s.yaml", "--dry-run")[2]
    write_yaml({"set": {"p": "abc"}, "grid": {"lr": [1, "no"]}}, "s.yaml")
    assert "p (data.modulus)" in command("sweep", "s.yaml", "--dry-run")[2]


TWICE = [
    ({"data": {"modulus": 11}, "modulus": 7}, "gives data.modulus twice, 11 and 7"),
    ({"lr": 0.01, "model.optimizer.lr": 0.001}, "gives model.optimizer.lr twice, 0.01 and 0.001"),
    ({"weight_decay": 1, "wd": 2}, "gives model.optimizer.weight_decay twice, 1 and 2"),
    ({"optimizer": "Muon", "model": {"optimizer": "SGD"}}, "twice, 'SGD' and 'Muon'"),
    ({"optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}, "lr": 0.2}}, "lr twice, 0.2 and 0.1"),
    ({"filters": [{"class_path": "Clip", "init_args": {"norm": 1}, "norm": 2}]}, "norm twice, 2 and 1"),
]


@pytest.mark.parametrize(("options", "said"), TWICE)
def test_one_option_twice_in_python_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        Experiment(**options)
    assert str(refused.value).endswith(f"{said}; leave one out"), refused.value


def test_an_experiment_goes_on_whatever_its_run_was_called_by(tmp_path: Path) -> None:
    further = {"exp_name": "e", "run_name": 3, "resume": "a.ckpt"}
    going_on = {"experiment": "e", "run": "3", "ckpt_path": "last", "trainer.max_steps": np.int64(7)}
    found = given_options([], [], {}, further | going_on)
    assert found == {"experiment": "e", "run": "3", "ckpt_path": "last", "trainer": {"max_steps": 7}}


def test_numbers_of_numpy_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Experiment(seed=np.int64(3), lr=np.float64(0.25), overwrite=np.True_, modulus=np.int32(7)).config
    assert (found["seed_everything"], found["model"]["optimizer"]["lr"], found["data"]["modulus"]) == (3, 0.25, 7)
    assert type(found["seed_everything"]) is int


def test_two_names_of_one_option_with_other_values_are_refused_on_a_command_line(command: Command) -> None:
    said = "--wd is '1' and --weight_decay is '2', but both are model.optimizer.weight_decay; leave one out"
    assert said in command("fit", "--wd", "1", "--weight_decay", "2")[2]
    assert "--seed is '1' and --seed_everything is '2'" in command("fit", "--seed=1", "--seed_everything=2")[2]


def test_a_class_of_the_user_keeps_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_p.py").write_text(
        "from grok_lightning.data import ModularArithmeticDataModule\n"
        "class Own(ModularArithmeticDataModule):\n"
        "    def __init__(self, p: int = 7, task: dict | None = None, modulus: int = 5, **kwargs):\n"
        "        super().__init__('x + y', p, **kwargs)\n"
    )
    found = given("--data", "mine_p.Own", "--data.p", "4", "--p", "4", "--data.task", "{p: 1}")
    assert found["data"] == {"class_path": "mine_p.Own", "p": "4", "task": "{p: 1}"}
    Path("c.yaml").write_text("data: {class_path: mine_p.Own, task: {p: 1}, p: 2, modulus: 3}\n", encoding="utf-8")
    found = given("--config", "c.yaml")["data"]
    assert found == {"class_path": "mine_p.Own", "task": {"p": 1}, "p": 2, "modulus": 3}


def test_an_error_is_renamed_once() -> None:
    for message, expected in (
        ("--data.modulus is 3", "--data.p (data.modulus) is 3"),
        ("data.moduluses is 3", "data.moduluses is 3"),
        ("--data.p (data.modulus) is 3", "--data.p (data.modulus) is 3"),
    ):
        with pytest.raises(UserError) as raised, naming({"data.modulus": "data.p"}):
            raise UserError(message)
        assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("weightdecay", "model.optimizer.weight_decay"),
        ("modulos", "data.modulus"),
        ("thresold", "evaluation.threshold"),
        ("learningrate", "model.optimizer.lr"),
        ("max_step", "trainer.max_steps"),
        ("weights_onl", "weights_only"),
        ("trainer.max_stps", "trainer.max_steps"),
    ],
)
def test_a_misspelt_last_part_or_word_gets_its_option(written: str, option: str) -> None:
    with pytest.raises(UserError, match=f"--{written} is no option; did you mean --{option}\\?"):
        resolve(["fit", f"--{written}", "3"])
