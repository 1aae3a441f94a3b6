"""Defects that were found once, each as a case; they are tried before anything random."""

from dataclasses import dataclass

from confined import Limits
from damages import Bytes, Case, Checkpoint, Content, Edit, Json, NamedColumn, Parquet, Repeated, SilentBit, Special
from strategies import CONFIG, RESUME, USES
from template import ARCHIVE, CHECKPOINT, INDEX, METRICS, NOTICE, PLANNED, RESULT, STRANGER
from trials import FormulaCase

FIT = ("fit", "--config", "f.yaml", "--print_config")
DRY = ("sweep", "f.yaml", "--dry_run")
SMALL = ("--data.modulus", "5", "--model.network", "MLP", "--model.network.width", "4", "--trainer.accelerator", "cpu")


@dataclass(frozen=True)
class Regression:
    """A defect that was found.

    Args:
        name: What it is.
        area: ``formulas``, ``options``, ``yaml``, ``checkpoints`` or ``records``.
        case: How it shows.
        limits: What it may take; default: what every case may.
    """

    name: str
    area: str
    case: Case | FormulaCase
    limits: Limits | None = None


def _config(*keys: str, odd: str) -> Checkpoint:
    return Checkpoint(STRANGER, (Edit((CONFIG, *keys), odd),))


def _foreign() -> list[Regression]:
    """What a stranger's checkpoint could do: run code, and write where it liked."""
    found = []
    for use in USES:
        name = use[1] if use[1] == "--init_from" else use[0]
        damage = _config("model", "network", "class_path", odd="evil class")
        found.append(
            Regression(f"{name} imports the network that a checkpoint names", "checkpoints", Case(use, (damage,)))
        )
    for keys, odd in [
        (("data", "class_path"), "evil class"),
        (("model", "optimizer", "class_path"), "evil class"),
        (("model", "filters"), "evil list"),
        (("measures",), "evil list"),
        (("trainer", "callbacks"), "evil list"),
        (("trainer", "logger"), "evil list"),
        (("trainer", "plugins"), "evil list"),
        (("trainer", "profiler"), "evil mapping"),
        (("model", "network", "class_path"), "acts when imported"),
    ]:
        name = f"fit --ckpt_path imports what {'.'.join(keys)} of a checkpoint names ({odd})"
        found.append(Regression(name, "checkpoints", Case(USES[4], (_config(*keys, odd=odd),))))
    for keys, odd in [
        (("run",), "outside"),
        (("experiment",), "absolute"),
        (("trainer", "default_root_dir"), "absolute"),
        (("experiment",), "outside"),
    ]:
        for use in (USES[4], USES[2]):
            name = f"{use[0]} writes where {'.'.join(keys)} of a checkpoint leads ({odd})"
            found.append(Regression(name, "checkpoints", Case(use, (_config(*keys, odd=odd),))))
    fit = ("fit", *SMALL, "--trainer.max_steps", "1")
    case = Case(fit, environment=(("GROK_LIGHTNING_RUN", "../../../outside"),), statuses=(2,))
    return [*found, Regression("fit writes where GROK_LIGHTNING_RUN leads", "options", case)]


def _state(*keys: object, odd: str = "", statuses: tuple[int, ...] = (0, 2, 3), use: tuple[str, ...] = RESUME) -> Case:
    path = CHECKPOINT if use is RESUME else STRANGER
    return Case(use, (Checkpoint(path, (Edit(keys, odd),)),), statuses)


def _checkpoints() -> list[Regression]:
    """Sealed checkpoints whose content has other types or sizes."""
    generate = USES[0]
    cases = {
        "the config is a number": _state(CONFIG, odd="a billion", use=generate),
        "the config contains itself": _state(CONFIG, "data", odd="contains itself", use=generate),
        "global_step is text": _state("global_step", odd="text", use=generate),
        "global_step has 5,000 digits": _state("global_step", odd="5,000 digits"),
        "state_dict is a list": _state("state_dict", odd="list of mixed", use=generate),
        "state_dict has a number": _state("state_dict", "new", odd="minus one", use=generate),
        "optimizer_states is a number": _state("optimizer_states", odd="minus one"),
        "loops is missing": _state("loops"),
        "loops is text": _state("loops", odd="text"),
        "lr_schedulers is text": _state("lr_schedulers", odd="text"),
        "callbacks is a list": _state("callbacks", odd="list of mixed"),
        "trainer of the config is a number": _state(CONFIG, "trainer", odd="minus one", use=generate),
        "model of the config is text": _state(CONFIG, "model", odd="text", use=generate),
        "data of the config is a list": _state(CONFIG, "data", odd="list of mixed", use=generate),
        "seed_everything is text": _state(CONFIG, "seed_everything", odd="text", use=generate),
        "the modulus has 5,000 digits": _state(CONFIG, "data", "modulus", odd="5,000 digits", use=generate),
        "a mapping of the config has numbers as keys": _state(
            CONFIG, "data", "new", odd="mapping of numbers", use=generate
        ),
        "the config is 400 levels deep": _state(CONFIG, "new", odd="nested 400 deep", use=generate),
    }
    found = [Regression(f"checkpoint: {name}", "checkpoints", case) for name, case in cases.items()]
    bomb = Case(generate, (Checkpoint(STRANGER, compressed=True, zeros=450),), (2,))
    found.append(Regression("checkpoint: deflated, 450 MiB of zeros", "checkpoints", bomb))
    found.append(
        Regression(
            "checkpoint: deflated", "checkpoints", Case(generate, (Checkpoint(STRANGER, compressed=True),), (2,))
        )
    )
    code = Case(generate, (Checkpoint(STRANGER, code=True),), (2,))
    found.append(Regression("checkpoint: an object that runs code", "checkpoints", code))
    for kind in ("fifo", "zeros", "directory"):
        case = Case(generate, (Special(STRANGER, kind),), (2,))
        found.append(Regression(f"checkpoint: {kind} in its place", "checkpoints", case))
    flipped = Case(generate, (Bytes(STRANGER, "flip", 0.5, 3),), (2,))
    return [*found, Regression("checkpoint: a flipped bit", "checkpoints", flipped)]


def _yaml() -> list[Regression]:
    """Documents that hang, fill the memory or end in a traceback."""
    laughs = "".join(f"  l{n}: &l{n} {{{', '.join(f'k{k}: *l{n - 1}' for k in range(9))}}}\n" for n in range(1, 9))
    laughing = Content("f.yaml", f"data:\n  l0: &l0 {{a: 1}}\n{laughs}".encode())
    itself = Content("f.yaml", b"data: &a\n  model: *a\n")
    keys = Repeated("f.yaml", "", "a_rather_long_key_NUMBER: 1\n", 150_000)
    deep = Repeated("f.yaml", "", "[", 5_000, "]" * 5_000)
    twice = Content("f.yaml", b"data:\n  modulus: 7\n  modulus: 11\n")
    tag = Content("f.yaml", b"data: !!python/name:evil_module.Net\n")
    number = Content("f.yaml", b"data: {modulus: " + b"9" * 5000 + b"}\n")
    listed = Content("f.yaml", b"&a [*a]\n")
    grid = Content("f.yaml", b"grid: &a\n  data: [*a]\n")
    long = Limits(seconds=20)
    found = []
    for use in (FIT, DRY):
        kind = use[0]
        if use is DRY:  # within ``set``, for a sweep's file has no other options
            laughing, itself, keys = (
                Content("f.yaml", b"grid: {seed_everything: [0]}\nset:\n" + _indent(laughing.content)),
                Content("f.yaml", b"grid: {seed_everything: [0]}\nset: &a\n  data: *a\n"),
                Repeated("f.yaml", "grid: {seed_everything: [0]}\nset:\n", "  a_rather_long_key_NUMBER: 1\n", 150_000),
            )
        found += [
            Regression(f"{kind}: billion laughs", "yaml", Case(use, (laughing,), (2,))),
            Regression(f"{kind}: a mapping that contains itself", "yaml", Case(use, (itself,), (2,))),
            Regression(f"{kind}: a list that contains itself", "yaml", Case(use, (listed,), (2,))),
            Regression(f"{kind}: 4 MB of keys", "yaml", Case(use, (keys,), (2,)), long),
            Regression(f"{kind}: 5,000 brackets", "yaml", Case(use, (deep,), (2,))),
            Regression(f"{kind}: a key twice", "yaml", Case(use, (twice,), (2,))),
            Regression(f"{kind}: a tag that imports", "yaml", Case(use, (tag,), (2,))),
            Regression(f"{kind}: an integer of 5,000 digits", "yaml", Case(use, (number,), (2,))),
            *(
                Regression(f"{kind}: {special} as the file", "yaml", Case(use, (Special("f.yaml", special),), (1, 2)))
                for special in ("fifo", "zeros", "directory", "loop")
            ),
        ]
    return [*found, Regression("sweep: a grid that contains itself", "yaml", Case(DRY, (grid,), (2,)))]


def _indent(content: bytes) -> bytes:
    return b"".join(b"  " + line for line in content.splitlines(keepends=True))


def _records() -> list[Regression]:
    """Records of which one is damaged: a report goes on with the others."""
    report, archive = ("report", "e"), ("report", ARCHIVE)
    status = ("sweep", "status", "s.yaml")
    found = [
        Regression(
            f"result.json: {keys[-1] if keys else 'all of it'} is {odd}",
            "records",
            Case(report, (Json(RESULT, (Edit(keys, odd),)),), (0, 2)),
        )
        for keys, odd in [
            (("steps",), "10^400"),
            (("grok_step",), "10^400"),
            (("budget",), "5,000 digits"),
            (("threshold",), "10^400"),
            ((), "empty list"),
            (("config",), "text"),
            (("config", "data"), "null"),
            (("config", "seed_everything"), "10^400"),
            (("status",), "list of mixed"),
            (("config_hash",), "minus one"),
            (("best",), "text"),
            (("schema",), "list of mixed"),
            (("seconds",), "text"),
            (("stack",), "text"),
            (("config", "data", "formula"), "control characters"),
            (("config", "evaluation"), "text"),
        ]
    ]
    brackets = Repeated(RESULT, "", "[", 100_000)
    found.append(Regression("result.json: 100,000 brackets", "records", Case(report, (brackets,), (0,))))
    for column in (
        "path",
        "status",
        "config_hash",
        "steps",
        "budget",
        "threshold",
        "memorize_step",
        "curve.step",
        "curve.val/acc",
    ):
        kinds = ("nulls", "text", "bytes", "lists", "structs", "integers", "remove")
        cases = {kind: Case(archive, (NamedColumn(ARCHIVE, column, kind),), (0, 2)) for kind in kinds}
        found += [Regression(f"runs.parquet: {column} is {kind}", "records", case) for kind, case in cases.items()]
    for value in (
        b"\xff",
        b"{",
        b"[]",
        b'{"config_hash": 5}',
        b'{"config_hash": [1], "experiment": []}',
        b"[" * 100_000,
    ):
        case = Case(archive, (Parquet(ARCHIVE, metadata=(b"grok_lightning.planned", value)),), (0, 2))
        found.append(Regression(f"runs.parquet: its plan is {value[:20]!r}", "records", case))
    mark = Case(archive, (Parquet(ARCHIVE, metadata=(b"grok_lightning.runs", b"\xff")),), (2,))
    found.append(Regression("runs.parquet: its version is no text", "records", mark))
    for content in (
        b"{}",
        b"[]",
        b"5",
        b'{"name": 5, "step": "x", "budget": null, "runs": [], "over": {}}',
        b"[" * 100_000,
        b"9" * 5000,
        b"",
    ):
        case = Case(status, (Content(NOTICE, content),), (0,))
        found.append(Regression(f"a worker's notice is {content[:24]!r}", "records", case))
    named = Content("lightning_logs/s/.sweep/workers/no-number.json", b"{}")
    found.append(Regression("a notice of no process", "records", Case(status, (named,), (0,))))
    for content in (b"[]", b"{}", b"[" * 100_000, b'{"file": 5}', b'{"file": "a\\u0000b"}', b"\xff"):
        case = Case(("sweep", "s.yaml", "--dry_run"), (Content("lightning_logs/s/.sweep/sweep.json", content),), (0, 2))
        found.append(Regression(f"sweep.json is {content[:24]!r}", "records", case))
    for cell in (b"\xff", b"\x00", b"9" * 5000, b"nan", b"x"):
        content = b"step,train/acc,val/acc,train/loss,val/loss\n0,0,0,1,1\n" + cell + b",0,0,1,1\n"
        found.append(
            Regression(
                f"metrics.csv has a step {cell[:9]!r}", "records", Case(report, (Content(METRICS, content),), (0,))
            )
        )
        resume = ("fit", "--experiment", "e", "--ckpt_path", "last", "--trainer.max_steps", "21")
        damage = Content("lightning_logs/e/c/metrics.csv", content)
        found.append(
            Regression(
                f"a resumed fit, metrics.csv has a step {cell[:9]!r}", "records", Case(resume, (damage,), (0, 1, 2))
            )
        )
    gone = Case(
        ("fit", "--experiment", "e", "--run", "c", "--ckpt_path", "last", "--trainer.max_steps", "30"),
        (Special("lightning_logs/e/c/metrics.csv", "missing"),),
        (0, 2),
        same_as="",
    )
    found.append(Regression("a resumed fit without metrics.csv", "records", gone))
    index = Case(("report", "s", "--out", "r"), (Bytes(INDEX, "flip", 0.4, 2),), (0,), same_as="r/conditions.csv")
    found.append(Regression("index.parquet: a flipped bit", "records", index))
    silent = Case(("report", "s", "--out", "r"), (SilentBit(INDEX, "steps"),), (0,), same_as="r/conditions.csv")
    found.append(Regression("index.parquet: a flipped bit that gives another number", "records", silent))
    odd = "lightning_logs/e/c/config.yaml"
    laughs = "".join(f"  l{n}: &l{n} {{{', '.join(f'k{k}: *l{n - 1}' for k in range(9))}}}\n" for n in range(1, 9))
    for name, content in (
        ("contains itself", b"data: &a\n  model: *a\n"),
        ("laughs", f"data:\n  l0: &l0 {{a: 1}}\n{laughs}".encode()),
    ):
        case = Case(report, (Content(odd, content),), (0,))
        found.append(Regression(f"the config.yaml of an unfinished run {name}", "records", case))
    planned = [Case(("report", "s"), (Parquet(PLANNED, 0, kind),), (0,)) for kind in ("structs", "rename", "nulls")]
    return [*found, *(Regression(f"planned.parquet: {case.damages[0]}", "records", case) for case in planned)]


def _formulas() -> list[Regression]:
    right = "x" + "+(x*y" * 48 + ")" * 48
    cases = {
        "nested 49 deep takes its share of memory": FormulaCase(right, "mod 1499", 2, modest=True),
        "x / y is undefined at 0": FormulaCase("x / y", "mod 7", 2, ("/", ("x", 0), ("x", 1))),
        "literals are reduced": FormulaCase("12 if x else x", "mod 7", 1, ("if", ("x", 0), ("number", 12), ("x", 0))),
        "the remainder of a negative number is that of Python": FormulaCase(
            "x if -5 % 3 == 1 else 0",
            "mod 7",
            1,
            (
                "if",
                ("compare", ("%", ("-", ("number", 5)), ("number", 3)), ("==", ("number", 1))),
                ("x", 0),
                ("number", 0),
            ),
        ),
        "a power is not reduced": FormulaCase("x**7", "mod 7", 1, ("**", ("x", 0), 7)),
        "permutations act from the right": FormulaCase(
            "x * y / x", "S3", 2, ("/", ("*", ("x", 0), ("x", 1)), ("x", 0))
        ),
        "a remainder in a condition is one of integers": FormulaCase(
            "x if x % 3 - 9 < 0 else y",
            "mod 7",
            2,
            (
                "if",
                ("compare", ("-", ("%", ("x", 0), ("number", 3)), ("number", 9)), ("<", ("number", 0))),
                ("x", 0),
                ("x", 1),
            ),
        ),
    }
    return [Regression(name, "formulas", case) for name, case in cases.items()]


def _options() -> list[Regression]:
    fit = ("fit", *SMALL, "--print_config")
    long = "x" * 200_000
    cases = {
        "control characters in a value": Case(("fit", *SMALL, "--data.formula", "\x1b[2J\x07x"), statuses=(2,)),
        "control characters in a name": Case((*fit, "--\x1b[2Jdata", "1"), statuses=(2,)),
        "control characters in an experiment's name": Case((*fit, "--experiment", "\x1b[31m"), statuses=(2,)),
        "control characters in a command": Case(("\x1b[2J",), statuses=(2,)),
        "control characters in a file's name": Case(("generate", "\x1b[2J.ckpt", "1+1="), statuses=(2,)),
        "a long value": Case((*fit, "--data.modulus", long), statuses=(2,)),
        "a long option": Case((*fit, f"--{long}", "1"), statuses=(2,)),
        "a long command": Case((long,), statuses=(2,)),
        "a long file's name": Case(("generate", long, "1+1="), statuses=(1, 2)),
        "a long config": Case(("fit", "--config", long), statuses=(2,)),
        "a long sweep": Case(("sweep", long, "--dry_run"), statuses=(2,)),
        "LOCAL_RANK is no number": Case(("fit", *SMALL, "--trainer.max_steps", "1"), (), (2,), (("LOCAL_RANK", "x"),)),
        "WORLD_SIZE is no number": Case(("fit", *SMALL, "--trainer.max_steps", "1"), (), (2,), (("WORLD_SIZE", "x"),)),
        "GROK_LIGHTNING_CHOSEN is no JSON": Case(
            ("fit", *SMALL, "--trainer.max_steps", "1"), (), (0, 2), (("GROK_LIGHTNING_CHOSEN", "x"),)
        ),
        "unicode digits as a number": Case((*fit, "--data.modulus", "٤٢"), statuses=(2,)),
        "unicode digits as a shard": Case(("sweep", "s.yaml", "--dry_run", "--shard", "١/٢"), statuses=(2,)),
        "unicode digits as a number of workers": Case(
            ("sweep", "s.yaml", "--dry_run", "--workers", "1٢"), statuses=(2,)
        ),
        "an integer of 5,000 digits": Case((*fit, "--data.modulus", "9" * 5000), statuses=(2,)),
        "workers of 5,000 digits": Case(("sweep", "s.yaml", "--dry_run", "--workers", "9" * 5000), statuses=(2,)),
        "a name that leads out": Case(
            ("fit", *SMALL, "--trainer.max_steps", "1", "--run", "../../../outside"), statuses=(2,)
        ),
        "YAML that contains itself as a class": Case((*fit, "--model.optimizer", "{a: &a [*a]}"), statuses=(2,)),
        "a seed of 5,000 digits": Case(("generate", CHECKPOINT, "1+1=", "--seed", "9" * 5000), statuses=(2,)),
    }
    return [Regression(name, "options", case) for name, case in cases.items()]


def regressions() -> list[Regression]:
    """All of them."""
    return [*_formulas(), *_options(), *_yaml(), *_foreign(), *_checkpoints(), *_records()]
