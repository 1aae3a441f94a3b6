"""Hypothesis strategies: command lines, YAML, checkpoints and records as nobody would write them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
import yaml
from damages import (
    COLUMNS,
    ODD,
    PLAIN,
    Bytes,
    Case,
    Checkpoint,
    Content,
    Damage,
    Edit,
    Json,
    Parquet,
    Repeated,
    Special,
)
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from template import ARCHIVE, CHECKPOINT, INDEX, METRICS, NOTICE, PLANNED, RESULT, STRANGER, with_records, with_run

# --- values and names -------------------------------------------------------------------------------------------------

_STRANGE = st.sampled_from([
    "", " ", "null", "true", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e400", "9" * 400, "9" * 5000, "0x10", "1_0",
    "٤٢", "１",
    "[]", "{}", "[1, 2", "{a: b}", "[[[[]]]]", "&a [*a]", "*a", "!!python/name:evil_module.Net", "a: b: c", "\x1b[2J",
    "a\x00b",
    "a\nb\r\nc", "\u202e", "\udcff", "x" * 5000, "../..", "/", "/dev/zero", "/dev/stdin", ".", "~", "$HOME", "%s",
    "{0}", "--", "-",
    "x + y", "cpu", "gpu", "tpu", "auto", "Transformer", "MLP", "LSTM", "AdamW", "SGD", "torch.optim.LBFGS",
    "os.system", "int", "[Clip]",
])  # fmt: skip
VALUES = st.one_of(_STRANGE, st.text(max_size=8), st.integers().map(str), st.floats().map(str))


@cache
def options() -> list[str]:
    """All options of ``fit``, as its own resolved config names them."""
    from contextlib import redirect_stdout, suppress
    from io import StringIO

    from grok_lightning.__main__ import main

    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main(["fit", "--print_config"])

    def names(nested: dict[str, Any], above: str = "") -> Iterator[str]:
        for key, value in nested.items():
            yield f"{above}{key}"
            if isinstance(value, dict):
                yield from names(value, f"{above}{key}.")

    return sorted(names(yaml.safe_load(printed.getvalue())))


_HEAVY = (
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.max_time",
)


# --- command lines ----------------------------------------------------------------------------------------------------


@st.composite
def command_lines(draw: Any) -> Case:
    """Commands with options, values and words that nobody expects."""
    known = [name for name in options() if name not in _HEAVY]
    other = draw(st.sampled_from(["fit", "fit", "fit", "others"]))
    words: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.one_of(st.sampled_from(known), st.sampled_from(known), _misspelt(known)))
        dashes = draw(st.sampled_from(["--", "--", "--", "-", "", "---"]))
        form = draw(st.sampled_from(["two", "two", "equals", "none", "plus"]))
        value = draw(VALUES)
        words += {
            "two": [f"{dashes}{name}", value], "equals": [f"{dashes}{name}={value}"], "none": [f"{dashes}{name}"],
            "plus": [f"{dashes}{name}+={value}"],
        }[form]  # fmt: skip
    if other == "fit":
        end = draw(st.sampled_from([["--print_config"], ["--trainer.max_steps", "1", "--data.modulus", "5"]]))
        return Case(("fit", "--model.network", "MLP", *_harmless(words), *end))
    start = draw(st.sampled_from([
        ("generate", CHECKPOINT, "1+1="), ("generate", CHECKPOINT), ("validate", "--ckpt_path", CHECKPOINT),
        ("predict", "--ckpt_path", CHECKPOINT, "--output", "p.csv"), ("test", "--ckpt_path", CHECKPOINT),
        ("sweep", "--dry_run"), ("sweep", "status"), ("report",), ("report", "e", "--by"), ("configs",), ("configs",
        "addition"), (),
        ("fit", "--ckpt_path", CHECKPOINT, "--print_config"), ("fit", "--help"),
    ]))  # fmt: skip
    extra = draw(st.lists(VALUES, max_size=2))
    return Case((*start, *_harmless([*extra, *words] if draw(st.booleans()) else extra)))


def _harmless(words: list[str]) -> list[str]:
    """Without surrogates that no system passes, and without NUL, which ends an argument."""
    return [word.replace("\x00", "") for word in words if "/dev/zero" not in word and "/dev/stdin" not in word]


def _misspelt(known: list[str]) -> SearchStrategy[str]:
    changed = st.tuples(st.sampled_from(known), st.integers(0, 20), st.text(max_size=2))
    mixed = changed.map(lambda change: change[0][: change[1]] + change[2] + change[0][change[1] + 1 :])
    return st.one_of(
        mixed,
        st.text(max_size=12),
        st.sampled_from(["", ".", "..", "a.b.c", "class_path", "config", "ckpt_path", "trainer."]),
    )


# --- YAML -------------------------------------------------------------------------------------------------------------

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 200), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(["MLP", "AdamW", "x + y", "0..3", "lr=1", "../../up", "Clip", 10**30, "2024-01-01", "1:30", "0o7",
    "~"]),
)  # fmt: skip
_YAML_FORMS = (
    *(
        "a: &a [*a]",
        "&a {b: *a}",
        "a: &a {data: *a}",
        "? [a, b]\n: c",
        "a: 1\na: 2",
        "data: {modulus: 7}\ndata.modulus: 5",
    ),
    *(
        "!!python/object/apply:os.system ['true']",
        "!!python/name:evil_module.Net",
        "a: !!python/module:evil_module.inner",
    ),
    *(
        "a: !!binary ////",
        "a: !!timestamp 2024-99-99",
        "a: !!int 12abc",
        "a: !!float xyz",
        "!!set {a, b}",
        "a: !unknown b",
        "- a\n- b",
    ),
    *(
        "a: 1\n---\nb: 2",
        "%YAML 9.9\n---\na: 1",
        "\ufeffa: 1",
        "a:\t1",
        "a: *b",
        "<<: {a: 1}",
        "<<: 5",
        "a: &x {<<: *x}",
        "<<: [[]]",
    ),
    *(
        "a: 'open",
        "{",
        "[",
        "{a: [",
        "'",
        "|",
        ">",
        "? ",
        "- - - -",
        "a: b: c",
        "@",
        "`",
        "%",
        "&a",
        "1: 2",
        "null: 1",
        "[]: 1",
        "{}: 1",
    ),
    *(
        "data: {formula: }",
        "model: 5",
        "trainer: []",
        "data: MLP",
        "model.network: {}",
        "measures: {}",
        "measures: [5]",
        "grid: 5",
    ),
    *(
        "grid: {}",
        "grid: {seed_everything: 0..9999999999}",
        "grid: {a: [1]}",
        "zip: [1]",
        "grid: {seed_everything: [0, 0]}",
        "set: 5",
    ),
    *(
        "base: ../../up.yaml",
        "base: 5",
        "base: f.yaml\ngrid: {seed_everything: [0]}",
        "exclude: 5\ngrid: {seed_everything: [0]}",
    ),
    *(
        "a: 1e999999999",
        f"a: {'9' * 5000}",
        f"{'9' * 5000}: a",
        "a: 0x" + "f" * 5000,
        "a: 0b" + "1" * 20000,
        "a: " + "1:" * 3000 + "1",
    ),
)


@st.composite
def yaml_files(draw: Any) -> Case:
    """A config or the file of a sweep, from well-formed to malicious."""
    kind = draw(st.sampled_from(["fit", "sweep", "status"]))
    path = "f.yaml"
    form = draw(
        st.sampled_from(["nested", "nested", "text", "text", "snippet", "deep", "laughs", "long", "special", "bytes"])
    )
    damage: Damage
    if form == "nested":
        damage = Content(
            path, yaml.safe_dump(draw(_yaml_values()), allow_unicode=True, sort_keys=False).encode(errors="replace")
        )
    elif form == "snippet":
        damage = Content(path, "\n".join(draw(st.lists(st.sampled_from(_YAML_FORMS), min_size=1, max_size=2))).encode())
    elif form == "text":
        damage = Content(path, draw(st.text(alphabet="abc:,-[]{}&*!|>'\"%@#?\n \t<0129.~", max_size=40)).encode())
    elif form == "deep":
        opening, closing = draw(st.sampled_from([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("a: [", "]")]))
        times = draw(st.sampled_from([10, 100, 1_000, 20_000]))
        damage = Repeated(path, "", opening, times, closing * times)
    elif form == "laughs":
        top = draw(st.sampled_from(["data", "grid", "set", "model", "a"]))
        damage = Repeated(
            path, f"{top}:\n  l0: &l0 [ha]\n", "", 1, _laughs(draw(st.integers(2, 9)), draw(st.booleans()))
        )
    elif form == "long":
        line = draw(
            st.sampled_from(
                ["kNUMBER: 1\n", "a.kNUMBER: 1\n", "- NUMBER\n", "? kNUMBER\n", "# \n", "kNUMBER: &aNUMBER {}\n"]
            )
        )
        damage = Repeated(path, "", line, draw(st.sampled_from([100, 3_000, 60_000])))
    elif form == "special":
        damage = Special(path, draw(st.sampled_from(["missing", "empty", "directory", "fifo", "loop", "zeros"])))
    else:
        damage = Content(path, draw(st.binary(max_size=30)))
    commands = {
        "fit": ("fit", "--config", path, "--print_config"),
        "sweep": ("sweep", path, "--dry_run"),
        "status": ("sweep", "status", path),
    }
    return Case(commands[kind], (damage,))


def _laughs(levels: int, mappings: bool) -> str:
    lines = []
    for level in range(1, levels + 1):
        names = [f"*l{level - 1}"] * 9
        inner = ", ".join(f"k{place}: {name}" for place, name in enumerate(names)) if mappings else ", ".join(names)
        lines.append(f"  l{level}: &l{level} " + (f"{{{inner}}}" if mappings else f"[{inner}]"))
    return "\n".join(lines) + "\n"


def _yaml_values() -> SearchStrategy[Any]:
    keys = st.one_of(
        st.sampled_from(
            [*options(), "grid", "zip", "set", "base", "exclude", "class_path", "init_args", "dict_kwargs"]
        ),
        st.text(max_size=5),
    )
    values = st.recursive(
        _SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
        max_leaves=8,
    )
    return st.dictionaries(keys, values, max_size=4)


# --- checkpoints ------------------------------------------------------------------------------------------------------

USES = (  # of a checkpoint that somebody sent
    ("generate", STRANGER, "1+1="),
    ("load_run", STRANGER),
    ("validate", "--ckpt_path", STRANGER),
    ("predict", "--ckpt_path", STRANGER, "--output", "p.csv"),
    ("fit", "--ckpt_path", STRANGER, "--trainer.max_steps", "21"),
    ("fit", "--init_from", STRANGER, *("--data.modulus", "5", "--model.network", "MLP", "--model.network.width", "4"),
     *("--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--run", "n")),
)  # fmt: skip
RESUME = ("fit", "--ckpt_path", CHECKPOINT, "--trainer.max_steps", "21")  # in its own place
CONFIG = "grok_lightning_config"
ATTACKS = (  # what a stranger would write into the config of a checkpoint
    *(((CONFIG, *keys), odd) for keys in [
        ("model", "network", "class_path"), ("model", "network"), ("model", "optimizer", "class_path"), ("model",
        "optimizer"),
        ("model", "filters"), ("data", "class_path"), ("data",), ("measures",), ("trainer", "callbacks"), ("trainer",
        "logger"),
        ("trainer", "plugins"), ("trainer", "profiler"), ("trainer", "strategy"), ("trainer", "accelerator"),
    ] for odd in ("evil class", "evil mapping", "evil list", "acts when imported")),
    *(((CONFIG, *keys), odd) for keys in [
        ("run",), ("experiment",), ("trainer", "default_root_dir"), ("output",), ("init_from",), ("ckpt_path",),
        ("trainer", "logger"),
    ] for odd in ("outside", "absolute")),
)  # fmt: skip


@cache
def places_in_checkpoint() -> list[tuple[Any, ...]]:
    """Where in a checkpoint something can be changed, its config first."""
    content = torch.load(with_run() / CHECKPOINT, weights_only=False)
    places = list(_places(content))
    return sorted(places, key=lambda keys: keys[:1] != (CONFIG,))


def _places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _places(value, (*above, key))


_NAMING = ("evil", "acts")  # values that name classes: a run of one's own may name any in its own place


@st.composite
def checkpoints(draw: Any) -> Case:
    """A checkpoint that somebody changed and resealed, or that a disk damaged, and a command that reads it."""
    use = draw(st.sampled_from([*USES, RESUME, RESUME]))
    path = CHECKPOINT if use is RESUME else STRANGER
    form = draw(
        st.sampled_from(
            ["edit", "edit", "edit", "edit", "attack", "attack", "bytes", "resealed bytes", "archive", "special"]
        )
    )
    if form == "bytes":
        damage = draw(_bytes(path))
        return Case(use, (damage,), statuses=(2,))
    if form == "resealed bytes":
        damage = draw(_bytes(path, sealed=True))
    elif form == "special":
        damage = Special(path, draw(st.sampled_from(["missing", "empty", "directory", "loop", "fifo", "zeros"])))
        return Case(use, (damage,), statuses=(2,))
    elif form == "archive":
        damage = draw(st.sampled_from([
            Checkpoint(path, compressed=True), Checkpoint(path, code=True), Checkpoint(path,
            program=True),
            Checkpoint(path, compressed=True, zeros=350),
        ]))  # fmt: skip
    elif form == "attack":
        attacks = [attack for attack in ATTACKS if use is not RESUME or not attack[1].startswith(_NAMING)]
        keys, odd = draw(st.sampled_from(attacks))
        damage = Checkpoint(path, (Edit(keys, odd),))
    else:
        places = places_in_checkpoint()
        keys = st.one_of(
            st.sampled_from(places),
            st.tuples(st.sampled_from(places), st.sampled_from(["new", 0, "class_path", "init_args"])).map(
                lambda pair: (*pair[0], pair[1])
            ),
        )
        edits = st.builds(
            Edit,
            keys,
            st.sampled_from(["", *(name for name in ODD if use is not RESUME or not name.startswith(_NAMING))]),
        )
        damage = Checkpoint(path, tuple(draw(st.lists(edits, min_size=1, max_size=2))))
    return Case(use, (damage,))


def _bytes(path: str, sealed: bool = False) -> SearchStrategy[Bytes]:
    return st.builds(
        Bytes, st.just(path), st.sampled_from(["cut", "flip", "flip", "zero", "insert", "double"]),
        st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.binary(min_size=1, max_size=6), st.just(sealed),
    )  # fmt: skip


# --- records ----------------------------------------------------------------------------------------------------------

READERS = {
    RESULT: (("report", "e"), ("read_records", "lightning_logs")),
    METRICS: (("report", "e"),),
    ARCHIVE: (("report", ARCHIVE), ("sweep", "s.yaml", "--dry_run", "--known", ARCHIVE)),
    INDEX: (("report", "s"), ("sweep", "status", "s.yaml"), ("sweep", "s.yaml", "--dry_run")),
    PLANNED: (("report", "s"),),
    NOTICE: (("sweep", "status", "s.yaml"),),
    "lightning_logs/s/.sweep/sweep.json": (("sweep", "status", "s.yaml"), ("sweep", "s.yaml", "--dry_run")),
    "lightning_logs/e/c/config.yaml": (("report", "e"),),
    "lightning_logs/e/c/metrics.csv": (("report", "e"), ("fit", "--experiment", "e", "--ckpt_path", "last",
    "--trainer.max_steps", "21")),
}  # fmt: skip
_CELLS = ("", "nan", "inf", "-1", "1e400", "9" * 5000, "x", '"', "\x00", "٤", "0", "=1+1", "1,2", "\x1b[2J", "step")


@cache
def places_in_json(path: str) -> list[tuple[Any, ...]]:
    """Where in a JSON file of the template something can be changed."""
    import json

    return list(_places(json.loads((with_records() / path).read_text())))


@st.composite
def records(draw: Any) -> Case:
    """A record that was damaged, and a command that reads it."""
    path = draw(st.sampled_from(list(READERS)))
    use = draw(st.sampled_from(READERS[path]))
    form = draw(st.sampled_from(["own", "own", "own", "own", "bytes", "special", "text"]))
    if form == "bytes":
        damage: Damage = draw(_bytes(path))
    elif form == "special":
        damage = Special(path, draw(st.sampled_from(["missing", "empty", "directory", "loop"])))
    elif form == "text":
        text = draw(
            st.sampled_from(
                [
                    "[" * 100_000,
                    '{"a":' * 5_000,
                    "null",
                    "[]",
                    "5",
                    '"',
                    "9" * 5000,
                    "a,b\n" * 3,
                    "&a [*a]",
                    "{}",
                    "\x00" * 50,
                ]
            )
        )
        damage = Repeated(path, "", text, 1)
    elif path.endswith(".json"):
        edits = st.builds(Edit, st.sampled_from(places_in_json(path)), st.sampled_from(["", *PLAIN]))
        damage = Json(path, tuple(draw(st.lists(edits, min_size=1, max_size=2))))
    elif path.endswith(".parquet"):
        kinds = ["remove", "twice", "rename", "rows", "repeat", *COLUMNS]
        metadata = st.one_of(st.just(()), st.tuples(
            st.sampled_from([b"grok_lightning.runs", b"grok_lightning.planned", b"grok_lightning.index"]),
            st.sampled_from([b"", b"1", b"2", b"\xff", b"[]", b"{}", b'{"config_hash": 5}', b"[" * 100_000,
            b'{"config_hash": [1], "experiment": []}']),
        ))  # fmt: skip
        damage = Parquet(path, draw(st.integers(0, 200)), draw(st.sampled_from(kinds)), draw(metadata))
    elif path.endswith(".csv"):
        damage = _changed_table(path, draw(st.integers(0, 4)), draw(st.integers(0, 6)), draw(st.sampled_from(_CELLS)))
    else:
        damage = draw(_bytes(path))
    alone = path in (RESULT, METRICS, PLANNED, INDEX, "lightning_logs/e/c/config.yaml") and form in (
        "bytes",
        "special",
        "text",
    )
    # one bad record never kills a report or a sweep
    return Case(use, (damage,), statuses=(0,) if alone and use[0] != "read_records" else (0, 1, 2))


def _changed_table(path: str, row: int, column: int, cell: str) -> Content:
    lines = [line.split(",") for line in (with_records() / path).read_text().splitlines()]
    line = lines[row % len(lines)]
    line[column % len(line)] = cell
    return Content(path, "".join(",".join(line) + "\n" for line in lines).encode())
