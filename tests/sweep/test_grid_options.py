"""What a run of a sweep is given: its base, what is set over it, and the values of its own point over both."""

from collections.abc import Callable
from pathlib import Path

import pytest
from grid_points import ADAMW, MUON, as_mappings

from grok_lightning.errors import UserError
from grok_lightning.options.arguments import read_config
from grok_lightning.options.classes import Nested, lookup
from grok_lightning.options.merging import normalize
from grok_lightning.options.shipped import shipped_configs
from grok_lightning.sweep.file import build_options, read_grid

Write = Callable[..., Path]


def test_every_shipped_config_is_a_base(write_yaml: Write) -> None:
    for name, path in shipped_configs().items():
        grid = read_grid(write_yaml({"base": f"configs/{name}.yaml", "grid": {"seed_everything": [1]}}))
        assert grid.base == path
        assert grid.fixed == read_config(path)
        assert build_options(grid, grid.points[0]) == grid.fixed | {"seed_everything": 1}


def test_a_base_is_looked_for_here_then_beside_the_file_then_among_the_shipped(write_yaml: Write) -> None:
    sweep = write_yaml({"base": "division.yaml", "grid": {"seed_everything": [1]}}, "sweeps/sweep.yaml")
    assert read_grid(sweep).base == shipped_configs()["division"]
    beside = write_yaml({"model.warmup": 3}, "sweeps/division.yaml")
    assert read_grid(sweep).base == beside
    assert read_grid(sweep).fixed == {"model": {"warmup": 3}}
    write_yaml({"model.warmup": 4}, "division.yaml")
    assert read_grid(sweep).fixed == {"model": {"warmup": 4}}


def test_without_a_base_only_what_is_set_is_fixed(write_yaml: Write) -> None:
    grid = read_grid(write_yaml({"set": {"trainer": {"max_steps": 5}}, "grid": {"seed_everything": [1]}}))
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
def test_set_takes_every_form_of_an_option(write_yaml: Write, fixed: Nested) -> None:
    base = write_yaml({"model": {"optimizer": {"decay": "l2"}, "warmup": 7}}, "base.yaml")
    grid = read_grid(write_yaml({"base": str(base), "set": fixed, "grid": {"seed_everything": [1]}}))
    assert grid.fixed == {"model": {"optimizer": {"class_path": MUON, "lr": 3}, "warmup": 7}}


def test_a_run_s_own_config_is_a_base_whose_names_are_left_out(write_yaml: Write) -> None:
    own = {"experiment": "a", "run": "0", "seed_everything": 4, "trainer": {"default_root_dir": ".", "max_steps": 5}}
    base = write_yaml(own, "config.yaml")
    grid = read_grid(write_yaml({"base": str(base), "grid": {"model.warmup": [1]}}))
    assert grid.fixed == {"seed_everything": 4, "trainer": {"max_steps": 5}}


def test_naming_a_class_starts_from_its_own_defaults(write_yaml: Write) -> None:
    base = write_yaml({"model": {"optimizer": {"decay": "l2", "lr": 1}}}, "base.yaml")
    values = ["AdamW", {"class_path": "AdamW", "lr": 2}, {"lr": 3}, "Muon", {"class_path": "Muon", "lr": 4}]
    grid = read_grid(write_yaml({"base": str(base), "grid": {"model.optimizer": values}}))
    assert [lookup(build_options(grid, point), "model.optimizer") for point in grid.points] == [
        {"class_path": ADAMW, "decay": "l2", "lr": 1},
        {"class_path": ADAMW, "decay": "l2", "lr": 2},
        {"decay": "l2", "lr": 3},
        {"class_path": MUON},
        {"class_path": MUON, "lr": 4},
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_block_comes_before_the_options_below_it(write_yaml: Write, reverse: bool) -> None:
    options = {
        "model.optimizer.lr": [0.1, 0.2],
        "model.optimizer": ["Muon", "torch.optim.SGD"],
        "model": [{"warmup": 1}, {"warmup": 2}],
    }
    grid = read_grid(write_yaml({"grid": dict(reversed(options.items())) if reverse else options}))
    for mapping, point in zip(as_mappings(grid), grid.points, strict=True):
        assert build_options(grid, point) == {
            "model": {
                "warmup": mapping["model"]["warmup"],
                "optimizer": mapping["model.optimizer"] | {"lr": mapping["model.optimizer.lr"]},
            }
        }


def test_what_is_given_is_in_the_short_form_and_the_caller_s_to_change(write_yaml: Write) -> None:
    grid = read_grid(
        write_yaml(
            {
                "base": "grokfast2024/ema",
                "grid": {
                    "model.filters": [[], "Clip", ["GrokfastEMA", {"class_path": "Clip"}]],
                    "model.network": ["MLP", {"class_path": "Transformer", "init_args": {"width": 8}}],
                    "model.optimizer.betas": [[0.9, 0.98], [0.9, 0.999]],
                    "evaluation": [{"every": 3}],
                },
            }
        )
    )
    options = [build_options(grid, point) for point in grid.points]
    assert len({repr(nested) for nested in options}) == len(grid.points) == 12
    assert all(nested == normalize(nested) for nested in options)
    assert all(nested["evaluation"] == {"every": 3, "threshold": 0.95} for nested in options)
    for nested in options:
        nested["model"]["optimizer"]["betas"].clear()
        nested["model"]["filters"].append("changed")
        nested["data"]["formula"] = nested["model"]["network"]["class_path"] = "changed"
    assert "changed" not in repr([build_options(grid, point) for point in grid.points])
    assert all(len(lookup(build_options(grid, point), "model.optimizer.betas")) == 2 for point in grid.points)


def test_an_option_below_any_named_class_is_one_of_its_own(write_yaml: Write) -> None:
    grid = read_grid(
        write_yaml({"set": {"trainer.logger": "CSVLogger"}, "grid": {"trainer.logger.init-args.prefix": ["p"]}})
    )
    expected = {"logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "prefix": "p"}]}
    assert normalize(build_options(grid, grid.points[0])) == {"trainer": expected}


def test_an_empty_block_takes_what_is_fixed(write_yaml: Write) -> None:
    blocks = {"model.optimizer": [{}, "Muon"], "model.optimizer.lr": [1]}
    grid = read_grid(write_yaml({"set": {"trainer.max_steps": 3}, "grid": blocks}))
    optimizers = [lookup(build_options(grid, point), "model.optimizer") for point in grid.points]
    assert optimizers == [{"lr": 1}, {"class_path": MUON, "lr": 1}]


def test_what_a_block_leaves_alone_may_be_set(write_yaml: Write) -> None:
    fixed = {"model.optimizer.lr": 3}
    blocks = {"model.optimizer": [{"decay": "l2"}, {"class_path": "AdamW"}], "data": [{"modulus": 5}, {"modulus": 7}]}
    with pytest.raises(UserError, match="data is given in set and in grid"):
        read_grid(write_yaml({"set": fixed | {"data": {"formula": "x + y"}}, "grid": blocks}))
    grid = read_grid(write_yaml({"set": fixed | {"data.formula": "x + y"}, "grid": blocks}))
    assert all(lookup(build_options(grid, point), "model.optimizer.lr") == 3 for point in grid.points)
    assert all(lookup(build_options(grid, point), "data.formula") == "x + y" for point in grid.points)
