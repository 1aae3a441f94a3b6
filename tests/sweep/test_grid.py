"""A sweep's file: every combination once, in an order that lasts, and no mistake that passes in silence."""

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from grok_lightning.arguments import read_config, shipped_configs
from grok_lightning.classes import Nested, lookup
from grok_lightning.errors import UserError
from grok_lightning.options import normalize
from grok_lightning.sweep.grid import Grid, given, read_grid

ADAMW, MUON = "grok_lightning.optim.AdamW", "grok_lightning.optim.Muon"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a YAML file into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def written(content: Nested | str, name: str = "sweep.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return written


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_grid(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"sweep {str(path)!r}: ")
    return message


def as_mappings(grid: Grid) -> list[Nested]:
    return [dict(zip(grid.options, point, strict=True)) for point in grid.points]


def in_order(few: list[Any], many: list[Any]) -> bool:
    rest = iter(many)
    return all(one in rest for one in few)


GRIDS = [
    {"grid": {"data.train_fraction": [0.3, 0.4], "seed_everything": [0, 1, 2]}},
    {"grid": {"seed_everything": "3..7"}},
    {"zip": {"model.warmup": [0, 10], "evaluation.every": [5, 10]}},
    {"zip": [{"model.warmup": [0, 10, 20], "trainer.max_steps": [1, 2, 3]}, {"evaluation.every": [5, 10]}]},
    {
        "grid": {"data.train_fraction": [0.3, 0.4, 0.5], "seed_everything": "0..1"},
        "zip": [{"model.warmup": [0, 10], "trainer.max_steps": [7, 7]}, {"evaluation.every": [5, 10]}],
    },
]
EXCLUDES: list[list[Nested]] = [
    [],
    [{"seed_everything": 1}],
    [{"seed_everything": [0, 2], "data.train_fraction": 0.3}],
    [{"seed_everything": "1..9"}, {"data.train_fraction": [0.4]}],
    [{"data.train_fraction": 0.3, "seed_everything": 0}, {"data.train_fraction": 0.3, "seed_everything": 1}],
]


@pytest.mark.parametrize("content", GRIDS)
def test_every_combination_is_there_once(write: Write, content: Nested) -> None:
    grid = read_grid(write(content))
    groups = content.get("zip", [])
    groups = groups if isinstance(groups, list) else [groups]
    lengths = [len(values) if isinstance(values, list) else None for values in content.get("grid", {}).values()]
    ranges = [text for text in content.get("grid", {}).values() if isinstance(text, str)]
    lengths += [int(text.split("..")[1]) - int(text.split("..")[0]) + 1 for text in ranges]
    lengths += [len(next(iter(group.values()))) for group in groups]
    assert len(grid.points) == prod(length for length in lengths if length is not None)
    assert len(set(grid.points)) == len(grid.points)
    assert grid.options == [*content.get("grid", {}), *(option for group in groups for option in group)]
    for mapping in as_mappings(grid):
        for group in groups:
            assert tuple(mapping[option] for option in group) in set(zip(*group.values(), strict=True))


@pytest.mark.parametrize("exclude", EXCLUDES)
def test_what_is_excluded_and_nothing_else_is_left_out(write: Write, exclude: list[Nested]) -> None:
    grid = {"data.train_fraction": [0.3, 0.4], "seed_everything": [0, 1, 2]}

    def matches(mapping: Nested, exclusion: Nested) -> bool:
        lists = {option: value if isinstance(value, list) else [value] for option, value in exclusion.items()}
        lists = {option: list(range(1, 10)) if values == ["1..9"] else values for option, values in lists.items()}
        return all(mapping[option] in values for option, values in lists.items())

    every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    expected = [mapping for mapping in every if not any(matches(mapping, exclusion) for exclusion in exclude)]
    assert as_mappings(read_grid(write({"grid": grid, "exclude": exclude}))) == expected


def test_the_last_option_of_grid_turns_fastest_and_the_first_group_of_zip_slowest(write: Write) -> None:
    path = write(
        {
            "zip": [{"trainer.max_steps": [1, 2]}, {"evaluation.every": [3, 4]}],
            "grid": {"model.warmup": [5, 6], "seed_everything": [8, 7]},
        }
    )
    grid = read_grid(path)
    assert grid.options == ["model.warmup", "seed_everything", "trainer.max_steps", "evaluation.every"]
    turned = [(point[2], point[3], point[0], point[1]) for point in grid.points]
    assert turned == list(product([1, 2], [3, 4], [5, 6], [8, 7]))


def grown(content: Nested) -> Iterator[Nested]:
    """The same with one more value at the end of one list, or of all lists of one group."""
    for option in content.get("grid", {}):
        more = copy.deepcopy(content)
        values = more["grid"][option]
        more["grid"][option] = values + "0" if isinstance(values, str) else [*values, 99]
        yield more
    for number in range(len(content["zip"]) if isinstance(content.get("zip"), list) else "zip" in content):
        more = copy.deepcopy(content)
        for values in (more["zip"][number] if isinstance(more["zip"], list) else more["zip"]).values():
            values.append(99)
        yield more


@pytest.mark.parametrize(("content", "more"), [(content, more) for content in GRIDS for more in grown(content)])
def test_a_grown_list_keeps_the_points_in_their_order(write: Write, content: Nested, more: Nested) -> None:
    before, after = read_grid(write(content)).points, read_grid(write(more)).points
    assert len(after) > len(before)
    assert in_order(before, after)


def test_reading_a_file_twice_gives_the_same(write: Write) -> None:
    path = write(GRIDS[-1])
    assert read_grid(path) == read_grid(path)


def test_100_000_points_are_small(write: Write) -> None:
    path = write({"grid": {"data.train_fraction": [0.1, 0.2, 0.3, 0.4], "seed_everything": "0..24999"}})
    read_grid(path)
    tracemalloc.start()
    grid = read_grid(path)
    bytes_taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(grid.points) == 100_000
    assert grid.points[0] == (0.1, 0)
    assert grid.points[-1] == (0.4, 24_999)
    assert bytes_taken < 20e6


def test_the_name_is_the_stem(write: Write) -> None:
    path = write(GRIDS[0], "fractions-1.yaml")
    assert (read_grid(path).name, read_grid(str(path)).path) == ("fractions-1", path)


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_is_a_base(write: Write, name: str) -> None:
    grid = read_grid(write({"base": f"configs/{name}.yaml", "grid": {"seed_everything": [1]}}))
    assert grid.base == shipped_configs()[name]
    assert grid.fixed == read_config(grid.base)
    assert given(grid, grid.points[0]) == grid.fixed | {"seed_everything": 1}


def test_a_base_is_looked_for_here_then_beside_the_file_then_among_the_shipped(write: Write) -> None:
    sweep = write({"base": "division.yaml", "grid": {"seed_everything": [1]}}, "sweeps/sweep.yaml")
    assert read_grid(sweep).base == shipped_configs()["division"]
    beside = write({"model.warmup": 3}, "sweeps/division.yaml")
    assert read_grid(sweep).base == beside
    assert read_grid(sweep).fixed == {"model": {"warmup": 3}}
    write({"model.warmup": 4}, "division.yaml")
    assert read_grid(sweep).fixed == {"model": {"warmup": 4}}


def test_without_a_base_only_what_is_set_is_fixed(write: Write) -> None:
    grid = read_grid(write({"set": {"trainer": {"max_steps": 5}}, "grid": {"seed_everything": [1]}}))
    assert (grid.base, grid.fixed) == (None, {"trainer": {"max_steps": 5}})


@pytest.mark.parametrize(
    "fixed",
    [
        {"model.optimizer": "Muon", "model.optimizer.lr": 3},
        {"model.optimizer.lr": 3, "model.optimizer": "Muon"},
        {"model.optimizer.lr": 3, "model.optimizer.class_path": "Muon"},
        {"model.optimizer.init_args.lr": 3, "model": {"optimizer": {"class_path": MUON}}},
        {"model": {"optimizer": {"class_path": "Muon", "init_args": {"lr": 3}}}},
        {"model": {"optimizer.class_path": "Muon", "optimizer.lr": 3}},
    ],
)
def test_set_takes_every_form_of_an_option(write: Write, fixed: Nested) -> None:
    base = write({"model": {"optimizer": {"decay": "l2"}, "warmup": 7}}, "base.yaml")
    grid = read_grid(write({"base": str(base), "set": fixed, "grid": {"seed_everything": [1]}}))
    assert grid.fixed == {"model": {"optimizer": {"class_path": MUON, "lr": 3}, "warmup": 7}}


def test_a_run_s_own_config_is_a_base_whose_names_are_left_out(write: Write) -> None:
    own = {"experiment": "a", "run": "0", "seed_everything": 4, "trainer": {"default_root_dir": ".", "max_steps": 5}}
    base = write(own, "config.yaml")
    grid = read_grid(write({"base": str(base), "grid": {"model.warmup": [1]}}))
    assert grid.fixed == {"seed_everything": 4, "trainer": {"max_steps": 5}}


def test_naming_a_class_starts_from_its_own_defaults(write: Write) -> None:
    base = write({"model": {"optimizer": {"decay": "l2", "lr": 1}}}, "base.yaml")
    values = ["AdamW", {"class_path": "AdamW", "lr": 2}, {"lr": 3}, "Muon", {"class_path": "Muon", "lr": 4}]
    grid = read_grid(write({"base": str(base), "grid": {"model.optimizer": values}}))
    assert [lookup(given(grid, point), "model.optimizer") for point in grid.points] == [
        {"class_path": ADAMW, "decay": "l2", "lr": 1},
        {"class_path": ADAMW, "decay": "l2", "lr": 2},
        {"decay": "l2", "lr": 3},
        {"class_path": MUON},
        {"class_path": MUON, "lr": 4},
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_block_comes_before_the_options_below_it(write: Write, reverse: bool) -> None:
    options = {
        "model.optimizer.lr": [0.1, 0.2],
        "model.optimizer": ["Muon", "torch.optim.SGD"],
        "model": [{"warmup": 1}, {"warmup": 2}],
    }
    grid = read_grid(write({"grid": dict(reversed(options.items())) if reverse else options}))
    for mapping, point in zip(as_mappings(grid), grid.points, strict=True):
        assert given(grid, point) == {
            "model": {
                "warmup": mapping["model"]["warmup"],
                "optimizer": mapping["model.optimizer"] | {"lr": mapping["model.optimizer.lr"]},
            }
        }


def test_what_is_given_is_in_the_short_form_and_the_caller_s_to_change(write: Write) -> None:
    grid = read_grid(
        write(
            {
                "base": "grokfast-ema",
                "grid": {
                    "model.filters": [[], "Clip", ["GrokfastEMA", {"class_path": "Clip"}]],
                    "model.network": ["MLP", {"class_path": "Transformer", "init_args": {"width": 8}}],
                    "model.optimizer.betas": [[0.9, 0.98], [0.9, 0.999]],
                    "evaluation": [{"every": 3}],
                },
            }
        )
    )
    options = [given(grid, point) for point in grid.points]
    assert len({repr(nested) for nested in options}) == len(grid.points) == 12
    assert all(nested == normalize(nested) for nested in options)
    assert all(nested["evaluation"] == {"every": 3, "threshold": 0.95} for nested in options)
    for nested in options:
        nested["model"]["optimizer"]["betas"].clear()
        nested["model"]["filters"].append("changed")
        nested["data"]["formula"] = nested["model"]["network"]["class_path"] = "changed"
    assert "changed" not in repr([given(grid, point) for point in grid.points])
    assert all(len(lookup(given(grid, point), "model.optimizer.betas")) == 2 for point in grid.points)


def test_an_option_below_any_named_class_is_one_of_its_own(write: Write) -> None:
    grid = read_grid(write({"set": {"trainer.logger": "A"}, "grid": {"trainer.logger.init-args.x": [1]}}))
    expected = {"trainer": {"logger": {"class_path": "A", "init_args": {"x": 1}}}}
    assert given(grid, grid.points[0]) == expected


@pytest.mark.parametrize("spelling", ["data.train-fraction", "data.init_args.train_fraction"])
def test_an_option_is_spelled_as_on_the_command_line(write: Write, spelling: str) -> None:
    grid = read_grid(write({"grid": {spelling: [0.3, 0.4]}, "exclude": [{spelling: 0.4}]}))
    assert (grid.options, grid.points) == (["data.train_fraction"], [(0.3,)])


@pytest.mark.parametrize(
    ("option", "values", "excluded", "left"),
    [
        ("model.optimizer.lr", ["1e-3", 0.01], 0.001, [1]),
        ("model.optimizer.lr", [0.001, 0.01], "1e-3", [1]),
        ("model.warmup", [1, 2, 3], "2..9", [0]),
        ("model.warmup", [1, 2, 3], [1.0, "3"], [1]),
        ("model.warmup", [1.0, 2.5, "3", 40], "1..9", [1, 3]),
        ("model.compile", [True, 0, 1], True, [1, 2]),
        ("model.compile", [True, 0, 1], "1..1", [0, 1]),
        ("evaluation.stop_after", [None, 5], None, [1]),
        ("model.optimizer", [{"class_path": "AdamW", "lr": "1e-3"}, "Muon"], MUON, [0]),
        ("model.optimizer", ["AdamW", {"class_path": "AdamW", "lr": "1e-3"}], "AdamW", [1]),
        ("model.optimizer", ["AdamW", "SGD", "Muon"], ["AdamW", {"class_path": "Muon"}], [1]),
        ("model.optimizer", ["AdamW", {"lr": "1e-3", "class_path": ADAMW}], {"class_path": "AdamW", "lr": 1e-3}, [0]),
        ("model.optimizer.betas", [[0.9, 0.98], [0.9, 0.999]], [0.9, 0.98], [1]),
        ("model.optimizer.betas", [[0.9, 0.98], [0.9, 0.999], [0, 0]], [[0.9, 0.98], [0, 0]], [1]),
        ("model.filters", [[], "Clip", ["Clip", "GrokfastEMA"]], [], [1, 2]),
        ("model.filters", [[], "Clip", ["Clip", "GrokfastEMA"]], "Clip", [0, 2]),
        ("model.filters", [[], "Clip", ["Clip", "GrokfastEMA"]], ["Clip", "GrokfastEMA"], [0, 1]),
        ("model.filters", [[], "Clip", "GrokfastEMA"], ["Clip", "GrokfastEMA"], [0]),
        ("model.filters", [[], "Clip", "GrokfastEMA"], [[], "Clip"], [2]),
    ],
)
def test_a_value_is_excluded_in_whatever_form_it_is_written(
    write: Write, option: str, values: list[Any], excluded: Any, left: list[int]
) -> None:
    every = read_grid(write({"grid": {option: values}})).points
    rest = read_grid(write({"grid": {option: values}, "exclude": [{option: excluded}]})).points
    assert rest == [every[place] for place in left]


def test_values_that_go_together_are_excluded_together(write: Write) -> None:
    path = write(
        {
            "grid": {"seed_everything": [0, 1]},
            "zip": {"model.warmup": [0, 0, 10], "evaluation.every": [5, 10, 10]},
            "exclude": [{"model.warmup": 0, "evaluation.every": 10, "seed_everything": 1}],
        }
    )
    assert read_grid(path).points == [(0, 0, 5), (1, 0, 5), (0, 0, 10), (0, 10, 10), (1, 10, 10)]


def test_more_options_than_an_array_has_dimensions(write: Write) -> None:
    options = {f"trainer.option_{number}": [0] for number in range(100)} | {"seed_everything": [0, 1]}
    exclude = [{"trainer.option_50": 0, "seed_everything": 1}]
    assert read_grid(write({"grid": options, "exclude": exclude})).points == [(0,) * 101]


SEED = {"seed_everything": [0, 1, 2]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
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
        ({"grid": {"seed_everything": "9..0"}}, "'9..0'; a range is two integers from 0 on, the smaller first"),
        ({"grid": {"seed_everything": "0..x"}}, "'0..x'; a range is two integers from 0 on, the smaller first"),
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
        ({"grid": {"model.filters": [None]}}, "grid: model.filters is null"),
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
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(write: Write, content: Nested | str, words: str) -> None:
    assert words in refusal(write(content))


def test_a_file_that_cannot_be_read_is_refused(write: Write, tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "missing.yaml")
    assert "cannot be read as YAML" in refusal(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read as YAML" in refusal(binary)
    write("a: [", "base.yaml")
    assert "base 'base.yaml' cannot be read as YAML" in refusal(write({"base": "base.yaml", "grid": SEED}))
    write({"model.optimizer": "AdmW"}, "base.yaml")
    assert "base 'base.yaml': model.optimizer names the class 'AdmW'" in refusal(tmp_path / "sweep.yaml")


def test_a_name_that_no_run_directory_may_have_is_refused(write: Write) -> None:
    assert "the experiment's name, is 'two words'" in refusal(write({"grid": SEED}, "two words.yaml"))


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
def test_a_key_that_stands_twice_is_refused(write: Write, text: str, key: str, lines: str) -> None:
    assert f"the key {key!r} stands twice in one mapping, in lines {lines}" in refusal(write(text))


def test_the_same_key_in_two_mappings_is_no_repetition(write: Write) -> None:
    text = "grid: {model.optimizer: [&first {class_path: Muon, lr: 1}, {<<: *first, lr: 2}, {lr: 3}]}"
    assert [point[0]["lr"] for point in read_grid(write(text)).points] == [1, 2, 3]


RESERVED = ("config", "experiment", "run", "overwrite", "ckpt_path", "split", "output", "trainer.default_root_dir")


@pytest.mark.parametrize("place", ["set", "grid", "zip"])
@pytest.mark.parametrize("option", [*RESERVED, "ckpt-path"])
def test_what_the_sweep_does_itself_is_not_for_its_file(write: Write, place: str, option: str) -> None:
    content: Nested = {"grid": dict(SEED)}
    content.setdefault(place, {})[option] = "0" if place == "set" else ["0", "1"]
    assert f"{place} has {option.replace('-', '_')}, which it may not: " in refusal(write(content))


def test_what_the_sweep_does_itself_is_not_for_its_base(write: Write) -> None:
    base = write({"ckpt_path": "last"}, "base.yaml")
    message = refusal(write({"grid": SEED, "base": str(base)}))
    assert f"base {str(base)!r} has ckpt_path, which it may not: " in message


def test_a_block_holds_nothing_that_the_sweep_does_itself(write: Write) -> None:
    for content in (
        {"grid": {"trainer": [{"default_root_dir": "a"}]}},
        {"set": {"trainer": {"default_root_dir": "a"}}},
    ):
        assert "has trainer.default_root_dir, which it may not" in refusal(write({"grid": SEED} | content))


def test_what_is_kept_of_a_run_is_fixed(write: Write) -> None:
    assert read_grid(write({"set": {"checkpoint.keep": "none"}, "grid": SEED})).fixed == {
        "checkpoint": {"keep": "none"}
    }
    assert "write it under `set`" in refusal(write({"grid": {"checkpoint.keep": ["none", "last"]}}))
    assert "write it under `set`" in refusal(write({"grid": {"checkpoint": [{"keep": "none"}]}}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
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
    ],
)
def test_an_option_that_would_be_replaced_is_refused(write: Write, content: Nested, words: str) -> None:
    assert words in refusal(write(content))


def test_what_the_base_contradicts_is_refused(write: Write) -> None:
    base = write({"trainer": {"logger": True}}, "base.yaml")
    assert "contradict each other" in refusal(write({"base": str(base), "grid": {"trainer.logger.x": [1]}}))


def test_an_empty_block_takes_what_is_fixed(write: Write) -> None:
    blocks = {"model.optimizer": [{}, "Muon"], "model.optimizer.lr": [1]}
    grid = read_grid(write({"set": {"trainer.max_steps": 3}, "grid": blocks}))
    optimizers = [lookup(given(grid, point), "model.optimizer") for point in grid.points]
    assert optimizers == [{"lr": 1}, {"class_path": MUON, "lr": 1}]


def test_what_a_block_leaves_alone_may_be_set(write: Write) -> None:
    fixed = {"model.optimizer.lr": 3, "data": {"formula": "x + y"}}
    blocks = {"model.optimizer": [{"decay": "l2"}, {"class_path": "AdamW"}], "data": [{"modulus": 5}, {"modulus": 7}]}
    with pytest.raises(UserError, match="data is given in set and in grid"):
        read_grid(write({"set": fixed, "grid": blocks}))
    fixed["data.formula"] = fixed.pop("data")["formula"]  # type: ignore[index]
    grid = read_grid(write({"set": fixed, "grid": blocks}))
    assert all(lookup(given(grid, point), "model.optimizer.lr") == 3 for point in grid.points)
    assert all(lookup(given(grid, point), "data.formula") == "x + y" for point in grid.points)
