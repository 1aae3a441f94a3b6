"""A sweep's grid: every combination once, in an order that lasts, but for those that are excluded."""

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import pytest
from grid_points import ADAMW, MUON, as_mappings

from grok_lightning.options.classes import Nested
from grok_lightning.sweep.file import read_grid

Write = Callable[..., Path]
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


def in_order(few: list[Any], many: list[Any]) -> bool:
    rest = iter(many)
    return all(one in rest for one in few)


@pytest.mark.parametrize("content", GRIDS)
def test_every_combination_is_there_once(write_yaml: Write, content: Nested) -> None:
    grid = read_grid(write_yaml(content))
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
def test_what_is_excluded_and_nothing_else_is_left_out(write_yaml: Write, exclude: list[Nested]) -> None:
    grid = {"data.train_fraction": [0.3, 0.4], "seed_everything": [0, 1, 2]}

    def matches(mapping: Nested, exclusion: Nested) -> bool:
        lists = {option: value if isinstance(value, list) else [value] for option, value in exclusion.items()}
        lists = {option: list(range(1, 10)) if values == ["1..9"] else values for option, values in lists.items()}
        return all(mapping[option] in values for option, values in lists.items())

    every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    expected = [mapping for mapping in every if not any(matches(mapping, exclusion) for exclusion in exclude)]
    assert as_mappings(read_grid(write_yaml({"grid": grid, "exclude": exclude}))) == expected


def test_the_last_option_of_grid_turns_fastest_and_the_first_group_of_zip_slowest(write_yaml: Write) -> None:
    path = write_yaml(
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
def test_a_grown_list_keeps_the_points_in_their_order(write_yaml: Write, content: Nested, more: Nested) -> None:
    before, after = read_grid(write_yaml(content)).points, read_grid(write_yaml(more)).points
    assert len(after) > len(before)
    assert in_order(before, after)


def test_reading_a_file_twice_gives_the_same(write_yaml: Write) -> None:
    path = write_yaml(GRIDS[-1])
    assert read_grid(path) == read_grid(path)


def test_100_000_points_are_small(write_yaml: Write) -> None:
    path = write_yaml({"grid": {"data.train_fraction": [0.1, 0.2, 0.3, 0.4], "seed_everything": "0..24999"}})
    read_grid(path)
    tracemalloc.start()
    grid = read_grid(path)
    bytes_taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(grid.points) == 100_000
    assert grid.points[0] == (0.1, 0)
    assert grid.points[-1] == (0.4, 24_999)
    assert bytes_taken < 20e6


def test_the_name_is_the_stem(write_yaml: Write) -> None:
    path = write_yaml(GRIDS[0], "fractions-1.yaml")
    assert (read_grid(path).name, read_grid(str(path)).path) == ("fractions-1", path)


@pytest.mark.parametrize("spelling", ["data.train-fraction", "data.init_args.train_fraction"])
def test_an_option_is_spelled_as_on_the_command_line(write_yaml: Write, spelling: str) -> None:
    grid = read_grid(write_yaml({"grid": {spelling: [0.3, 0.4]}, "exclude": [{spelling: 0.4}]}))
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
    write_yaml: Write, option: str, values: list[Any], excluded: Any, left: list[int]
) -> None:
    every = read_grid(write_yaml({"grid": {option: values}})).points
    rest = read_grid(write_yaml({"grid": {option: values}, "exclude": [{option: excluded}]})).points
    assert rest == [every[place] for place in left]


def test_values_that_go_together_are_excluded_together(write_yaml: Write) -> None:
    path = write_yaml(
        {
            "grid": {"seed_everything": [0, 1]},
            "zip": {"model.warmup": [0, 0, 10], "evaluation.every": [5, 10, 10]},
            "exclude": [{"model.warmup": 0, "evaluation.every": 10, "seed_everything": 1}],
        }
    )
    assert read_grid(path).points == [(0, 0, 5), (1, 0, 5), (0, 0, 10), (0, 10, 10), (1, 10, 10)]


def test_more_options_than_an_array_has_dimensions(write_yaml: Write) -> None:
    options = {f"trainer.option_{number}": [0] for number in range(100)} | {"seed_everything": [0, 1]}
    exclude = [{"trainer.option_50": 0, "seed_everything": 1}]
    assert read_grid(write_yaml({"grid": options, "exclude": exclude})).points == [(0,) * 101]
