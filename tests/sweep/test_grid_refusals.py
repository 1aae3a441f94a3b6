"""No mistake in a sweep's file passes in silence: each is told in one line."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from grid_points import MUON

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested
from grok_lightning.sweep.file import read_grid

Write = Callable[..., Path]
SEED = {"seed_everything": [0, 1, 2]}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_grid(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"sweep {str(path)!r}: ")
    return message


MISTAKES: list[tuple[Nested | str, str]] = [
    ("", "no mapping"),
    ("- 1", "no mapping"),
    ("a: [", "cannot be read as YAML"),
    ("? [a]\n: b", "cannot be read as YAML"),
    ({"base": "division"}, "neither grid nor zip"),
    ({"gird": SEED}, "'gird' is no key of a sweep; did you mean grid?"),
    ({"grid": SEED, 3: 4}, "3 is no key of a sweep"),
    ({"grid": SEED, "trainer.max_steps": 4}, "known are base, exclude, grid, set, zip"),
    ({"grid": {}}, "grid is empty"),
    ({"grid": None, "zip": SEED}, "grid is empty"),
    ({"grid": [1]}, "grid is [1]; a mapping of options is expected"),
    ({"grid": SEED, "zip": {}}, "zip is empty"),
    ({"grid": SEED, "zip": []}, "zip is empty"),
    ({"grid": SEED, "zip": [{}]}, "zip is empty"),
    ({"zip": [{"model.warmup": [1]}, 3]}, "zip is 3; a mapping of options is expected"),
    ({"grid": {3: [1]}}, "grid has 3 where the name of an option is expected"),
    ({"grid": {"seed_everything": []}}, "grid: seed_everything is an empty list"),
    ({"grid": {"seed_everything": 3}}, "grid: seed_everything is 3; a list of values is expected"),
    ({"grid": {"seed_everything": None}}, "grid: seed_everything is null; a list of values is expected"),
    ({"grid": {"model.optimizer": "Muon"}}, "grid: model.optimizer is 'Muon'; a list of values is expected"),
    ({"grid": {"seed_everything": "9..0"}}, "'9..0'; a range is two integers, the smaller first"),
    ({"grid": {"seed_everything": "0..x"}}, "'0..x'; a range is two integers, the smaller first"),
    ({"grid": {"seed_everything": "-3..3"}}, "'-3..3'; a range is two integers"),
    ({"grid": {"data": "0..9"}}, "data is 0; a class name"),
    ({"grid": {"data": {"train_fraction": [0.3]}}}, "`data.train_fraction: [VALUE, ...]`"),
    ({"grid": {"seed_everything": "0..9999", "model.warmup": "0..1000"}}, "10,010,000 combinations; at most 10,"),
    ({"grid": {"seed_everything": "0..999999999999999"}}, "1,000,000,000,000,000 combinations"),
    ({"zip": {"seed_everything": "0..999999999999", "model.warmup": "1..1000000000000"}}, "combinations; at most"),
    ({"grid": {"seed_everything": [0, 1, 0]}}, "grid: seed_everything has the same value twice, 0 and 0"),
    ({"grid": {"model.optimizer.lr": ["1e-3", 0.001]}}, "the same value twice, '1e-3' and 0.001"),
    ({"grid": {"model.optimizer": ["Muon", {"class_path": MUON}]}}, "model.optimizer has the same value twice"),
    ({"grid": {"model.optimizer": ["AdmW"]}}, "'AdmW', which does not exist; did you mean AdamW?"),
    ({"grid": {"model.optimizer": ["Muon", None]}}, "grid: model.optimizer is null; a class name or a mapping"),
    ({"grid": {"model.filters.strength": [1, 2]}}, "model.filters"),
    ({"grid": {"evaluation": [{1: 2}]}}, "grid: evaluation has 1 where the name of an option is expected"),
    (
        {"zip": {"model.warmup": [1, 2, 3], "evaluation.every": [1, 2]}},
        "zip: model.warmup has 3, evaluation.every has 2 values",
    ),
    (
        {"zip": {"model.warmup": [1, 2, 1], "evaluation.every": [3, 4, 3]}},
        "zip: model.warmup and evaluation.every has the same value twice, (1, 3) and (1, 3)",
    ),
    ({"grid": SEED, "set": [1]}, "set is [1]; a mapping of options is expected"),
    ({"grid": SEED, "set": {3: 4}}, "set has 3 where the name of an option is expected"),
    ({"grid": SEED, "set": {"model.optimizer": "AdmW"}}, "did you mean AdamW?"),
    ({"grid": SEED, "base": ["division"]}, "base is ['division']; the path of a fit config"),
    ({"grid": SEED, "base": "divison"}, "base 'divison' is neither a file nor"),
    ({"grid": SEED, "base": "divison"}, "did you mean division?"),
    ({"grid": SEED, "base": "no/such.yaml"}, "base 'no/such.yaml' is neither a file nor a shipped config"),
    ({"grid": SEED, "base": "sweeps/addition-seeds"}, "is neither a file nor"),
    ({"grid": SEED, "base": "."}, "base '.' is neither a file nor"),
    ({"grid": SEED, "base": "a" * 999}, "is neither a file nor a shipped config"),
    ({"grid": SEED, "exclude": {"seed_everything": 1}}, "a list of mappings is expected"),
    ({"grid": SEED, "exclude": ["seed_everything"]}, "exclude is 'seed_everything'; a mapping"),
    ({"grid": SEED, "exclude": [{}]}, "exclude has {}, which matches no combination"),
    ({"grid": SEED, "exclude": [{"seed_everything": []}]}, "which matches no combination"),
    ({"grid": SEED, "exclude": [{"seed_everything": 3}]}, "3, which is none of its values: 0, 1, 2"),
    ({"grid": SEED, "exclude": [{"seed_everything": [1, 7]}]}, "seed_everything 7, which is none"),
    ({"grid": SEED, "exclude": [{"seed_everything": "3..9"}]}, "'3..9', which is none of its values"),
    ({"grid": SEED, "exclude": [{"seed_everything": "0..2"}]}, "exclude leaves none of the 3 combinations"),
    ({"grid": SEED, "exclude": [{"seed_evrything": 1}]}, "which does not vary; did you mean seed_everything?"),
    ({"grid": SEED, "set": {"model.warmup": 1}, "exclude": [{"model.warmup": 1}]}, "warmup, which does not vary"),
    ({"grid": {"model.optimizer": ["Muon"]}, "exclude": [{"model.optimizer": "Mun"}]}, "did you mean Muon?"),
    (
        {
            "zip": {"model.warmup": [1, 2], "evaluation.every": [3, 4]},
            "exclude": [{"model.warmup": 1, "evaluation.every": 4}],
        },
        "which matches no combination",
    ),
]  # fmt: skip


def test_a_mistake_is_told_in_one_line(write_yaml: Write) -> None:
    for content, words in MISTAKES:
        assert words in refusal(write_yaml(content)), content


def test_a_file_that_cannot_be_read_is_refused(write_yaml: Write, tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "missing.yaml")
    assert "it cannot be read: Is a directory" in refusal(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read as YAML" in refusal(binary)
    write_yaml("a: [", "base.yaml")
    assert "base 'base.yaml': it cannot be read as YAML" in refusal(write_yaml({"base": "base.yaml", "grid": SEED}))
    write_yaml({"model.optimizer": "AdmW"}, "base.yaml")
    assert "base 'base.yaml': model.optimizer names the class 'AdmW'" in refusal(tmp_path / "sweep.yaml")


def test_a_name_that_no_run_directory_may_have_is_refused(write_yaml: Write) -> None:
    assert "the experiment's name, is 'two words'" in refusal(write_yaml({"grid": SEED}, "two words.yaml"))


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("grid: {a: [1]}\ngrid: {b: [1]}", "grid", "1 and 2"),
        ("grid:\n  seed_everything: [0]\n  'seed_everything': [1]", "seed_everything", "2 and 3"),
        ("grid: {model.optimizer: [{lr: 1, lr: 2}]}", "lr", "1 and 1"),
        ("grid: {a: [1]}\nset:\n  b: {c: 1,\n   c: 2}", "c", "3 and 4"),
        ("grid: {a: [1, 2]}\nexclude:\n- {a: 1, a: 2}", "a", "3 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_refused(write_yaml: Write, text: str, key: str, lines: str) -> None:
    assert f"the key {key!r} occurs twice in one mapping, in lines {lines}" in refusal(write_yaml(text))


def test_the_same_key_in_two_mappings_is_no_repetition(write_yaml: Write) -> None:
    text = "grid: {model.optimizer: [&first {class_path: Muon, lr: 1}, {<<: *first, lr: 2}, {lr: 3}]}"
    assert [point[0]["lr"] for point in read_grid(write_yaml(text)).points] == [1, 2, 3]


RESERVED = ("config", "experiment", "run", "overwrite", "ckpt_path", "split", "output", "trainer.default_root_dir")


def test_what_the_sweep_does_itself_is_not_for_its_file(write_yaml: Write) -> None:
    for option, place in product([*RESERVED, "ckpt-path"], ["set", "grid", "zip"]):
        content: Nested = {"grid": dict(SEED)}
        content.setdefault(place, {})[option] = "0" if place == "set" else ["0", "1"]
        assert f"{place} has {option.replace('-', '_')}, which it may not: " in refusal(write_yaml(content))


def test_what_the_sweep_does_itself_is_not_for_its_base(write_yaml: Write) -> None:
    base = write_yaml({"ckpt_path": "last"}, "base.yaml")
    message = refusal(write_yaml({"grid": SEED, "base": str(base)}))
    assert f"base {str(base)!r} has ckpt_path, which it may not: " in message


def test_a_block_holds_nothing_that_the_sweep_does_itself(write_yaml: Write) -> None:
    for content in (
        {"grid": {"trainer": [{"default_root_dir": "a"}]}},
        {"set": {"trainer": {"default_root_dir": "a"}}},
    ):
        assert "has trainer.default_root_dir, which it may not" in refusal(write_yaml({"grid": SEED} | content))


def test_what_is_kept_of_a_run_is_fixed(write_yaml: Write) -> None:
    assert read_grid(write_yaml({"set": {"checkpoint.keep": "none"}, "grid": SEED})).fixed == {
        "checkpoint": {"keep": "none"}
    }
    assert "write it under `set`" in refusal(write_yaml({"grid": {"checkpoint.keep": ["none", "last"]}}))
    assert "write it under `set`" in refusal(write_yaml({"grid": {"checkpoint": [{"keep": "none"}]}}))


REPLACED = [
    ({"set": {"model.warmup": 1}, "grid": {"model.warmup": [2]}}, "model.warmup is given in set and in grid"),
    ({"grid": {"model.warmup": [2]}, "zip": {"model.warmup": [2]}}, "model.warmup is given in grid and in zip"),
    ({"zip": [{"model.warmup": [2]}, {"model.warmup": [3]}]}, "model.warmup is given twice in zip"),
    ({"grid": {"data.train-fraction": [1], "data.train_fraction": [2]}}, "given twice in grid"),
    ({"grid": {"data": ["TextDataModule"], "data.class_path": ["TextDataModule"]}}, "given twice"),
    ({"set": {"model.optimizer": "Muon"}, "grid": {"model.optimizer": ["AdamW"]}}, "given in set and in grid"),
    ({"set": {"trainer": {"max_steps": 1}, "trainer.max_steps": 2}, "grid": SEED}, "give it once"),
    ({"set": {"trainer": {"max_steps": 1}}, "grid": {"trainer.max_steps": [2]}}, "trainer.max_steps 1, which"),
    (
        {"grid": {"evaluation": [{"every": 1}], "evaluation.every": [2]}},
        "evaluation.every 1, which evaluation.every 2",
    ),
    (
        {"set": {"model.optimizer.lr": 3}, "grid": {"model.optimizer": ["AdamW", "Muon"]}},
        "write it into that value, or `model.optimizer.lr: [3]` under grid",
    ),
    ({"grid": {"model": [{"optimizer": {"lr": 1}}], "model.optimizer": ["Muon"]}}, "model.optimizer.lr 1, which"),
]


def test_an_option_that_would_be_replaced_is_refused(write_yaml: Write) -> None:
    for content, words in REPLACED:
        assert words in refusal(write_yaml(content))


def test_what_the_base_contradicts_is_refused(write_yaml: Write) -> None:
    base = write_yaml({"trainer": {"logger": True}}, "base.yaml")
    assert "contradict each other" in refusal(write_yaml({"base": str(base), "grid": {"trainer.logger.x": [1]}}))


def test_a_sweep_is_no_base_and_a_base_may_hold_nothing_but_what_a_sweep_decides(
    write_yaml: Write, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text("grid: {seed_everything: [0, 1]}")
    (tmp_path / "config.yaml").write_text("trainer: {default_root_dir: .}")
    assert "base 'other.yaml' is a sweep file; a fit config is" in refusal(
        write_yaml({"grid": SEED, "base": "other.yaml"})
    )
    assert len(read_grid(write_yaml({"grid": SEED, "base": "config.yaml"})).points) == 3


def test_null_is_no_class_of_a_list(write_yaml: Write) -> None:
    assert len(read_grid(write_yaml({"grid": {"model.filters": [None, ["GrokfastEMA"]]}})).points) == 2
    assert len(read_grid(write_yaml({"grid": SEED, "set": {"model.filters": None}})).points) == 3
