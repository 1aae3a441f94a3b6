"""Names of options as the field's repositories write them: shortened, or another word for the same thing.

One rule for command lines, YAML files, sweeps and Python: an option that exists is meant as written. Any other is found
by its last part, or by a word of ``WORDS`` for that, where the parts before it occur in the option's own path in order
and only one option fits: ``lr``, ``model.lr`` and ``optimizer.lr`` are ``model.optimizer.lr``, ``data.p`` is
``data.modulus``. Words that mean something else than any option are answered with what to write (``ANSWERS``).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LISTS,
    NAMING,
    Nested,
    arguments_of,
    class_defaults,
    class_hints,
)
from grok_lightning.options.parser import LINKED, command_parser
from grok_lightning.options.yamls import join, nest

WORDS = {  # for each option, other words for its last part; of options with the same word, the first that exists
    "seed_everything": "seed random_seed rng_seed manual_seed",
    "experiment": "experiment_name exp_name",
    "run": "run_name run_id",
    "threads": "num_threads n_threads",
    "ckpt_path": "ckpt checkpoint_path resume resume_from",
    "data.modulus": "p prime mod modulo",
    "data.formula": "operation operator op math_operator binary_operation binary_op fn_name task",
    "data.train_fraction": "train_frac frac_train training_fraction fraction frac train_ratio train_split",
    "data.val_fraction": "val_frac frac_val validation_fraction valid_fraction val_ratio",
    "data.batch_size": "batchsize bs train_batch_size mini_batch_size minibatch_size",
    "data.split_seed": "data_seed",
    "data.strings": "text string",
    "model.network": "architecture arch net model_type",
    "model.network.layers": "n_layer n_layers num_layer num_layers nlayers num_hidden_layers depth",
    "model.network.heads": "n_head n_heads num_heads nhead nheads num_attention_heads",
    "model.network.hidden": "hidden_size hidden_sizes hidden_dim hidden_dims d_hidden",
    "model.network.width": "n_embd d_model dim_model model_dim dim embed_dim embedding_dim emb_dim d_embed n_embed "
    "hidden_size hidden_dim",
    "model.network.feedforward": "d_mlp d_ff dim_feedforward ffn_dim ff_dim mlp_dim n_inner intermediate_size",
    "model.network.activation": "act act_fn act_type activation_fn activation_function hidden_act non_linearity "
    "nonlinearity",
    "model.network.dropout": "dropout_rate dropout_p dropout_prob p_dropout",
    "model.network.init_scale": "initialization_scale weight_scale",
    "model.network.tied": "tie_weights tie_word_embeddings tie_embeddings weight_tying",
    "model.optimizer": "optim optimiser opt",
    "model.optimizer.lr": "learning_rate max_lr base_lr peak_lr",
    "model.optimizer.weight_decay": "wd weight_decay_rate",
    "model.scheduler": "lr_scheduler",
    "model.schedule": "lr_schedule",
    "model.warmup": "warmup_steps warmup_iters num_warmup_steps",
    "model.loss": "loss_fn loss_function criterion",
    "trainer.max_steps": "n_steps num_steps total_steps train_steps training_steps num_train_steps max_iters "
    "max_iterations iterations n_iters num_iters budget optimization_steps",
    "trainer.accelerator": "device",
    "trainer.default_root_dir": "out_dir output_dir log_dir logdir",
    "evaluation.every": "eval_every eval_interval eval_freq eval_steps eval_period val_every",
    "checkpoint.interval": "save_every save_interval checkpoint_every checkpoint_interval ckpt_every",
}
_FIRST = {"per_decade": "evaluation.per_decade"}  # last parts that one option had before another got them too
OF_WORD: dict[str, list[str]] = {}
for _option, _words in WORDS.items():
    for _word in _words.split():
        OF_WORD.setdefault(_word, []).append(_option)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _answer_percent(value: Any) -> str:
    percent = _number(value)
    share = f"{percent / 100:g}" if percent is not None and 0 < percent <= 100 else "0.5 for 50"
    return f"is in percent there; here a fraction is given: --data.train_fraction {share}"


def _answer_epochs(value: Any) -> str:
    steps = f"{value} " if _number(value) is not None else "N "
    return (
        "counts epochs; a budget is counted in steps, --trainer.max_steps, of which an epoch has training rows / "
        f"batch_size; with full batches it has one: --data.batch_size full --trainer.max_steps {steps.strip()}"
    )


def _answer_test(value: Any) -> str:
    share = _number(value)
    rest = f"{0.5 - share:g}" if share is not None and 0 < share < 0.5 else "0.2"
    return (
        "is no option: the test split is what training and validation leave, such as --data.train_fraction 0.5 "
        f"--data.val_fraction {rest}"
    )


def _answer_precision(value: Any) -> str:
    kinds = {"bfloat16": "bf16-mixed", "bf16": "bf16-mixed", "float16": "16-mixed", "float64": "64-true"}
    return f"is written --trainer.precision {kinds.get(str(value).removeprefix('torch.'), '32-true')}"


def _say(text: str) -> Callable[[Any], str]:
    return lambda value: text.format(value=value if isinstance(value, str | int | float) else "VALUE")


_FOLLOWS = _say("is no option: it follows from the task (operands, tokens and elements of --data)")
ANSWERS: dict[str, Callable[[Any], str]] = {  # what a word that is no option comes to, from its value
    **dict.fromkeys(
        ("training_data", "train_data_pct", "training_data_pct", "train_pct", "train_percent", "percent_train"),
        _answer_percent,
    ),
    **dict.fromkeys(("num_epochs", "n_epochs", "epochs", "num_train_epochs", "total_epochs"), _answer_epochs),
    **dict.fromkeys(("test_fraction", "test_frac", "frac_test", "test_ratio", "test_split"), _answer_test),
    **dict.fromkeys(("dtype", "torch_dtype"), _answer_precision),
    **dict.fromkeys(
        ("block_size", "n_ctx", "context_length", "max_context_len", "seq_len", "d_vocab", "vocab_size", "n_vocab"),
        _FOLLOWS,
    ),
    **dict.fromkeys(
        ("grad_clip", "max_grad_norm", "clip_grad", "clip_grad_norm", "gradient_clip"),
        _say("is written --model.filters Clip --model.filters.norm {value}"),
    ),
    "beta1": _say('is written --model.optimizer.betas "[{value}, 0.98]", both in one list'),
    "beta2": _say('is written --model.optimizer.betas "[0.9, {value}]", both in one list'),
    "d_head": _say("is no option: a head has model.network.width / model.network.heads"),
    "head_dim": _say("is no option: a head has model.network.width / model.network.heads"),
    "lamb": _say("is written --model.filters GrokfastEMA --model.filters.strength {value}"),
    "window_size": _say("is written --model.filters GrokfastMean --model.filters.window {value}"),
    "alpha": _say("could be --data.train_fraction, or of --model.filters GrokfastEMA --model.filters.alpha {value}"),
    "use_ln": _say("is written --model.network.norm none, pre or post"),
    "decay_lr": _say("is written --model.schedule cosine, or constant"),
    "anneal_lr": _say("is written --model.schedule cosine, or constant"),
    "num_workers": _say("is no option: the data stay on the device; leave it out"),
    "use_wandb": _say("is written --trainer.logger WandbLogger"),
    "wandb": _say("is written --trainer.logger WandbLogger"),
}


class Names:
    """Finds the option that a written name stands for.

    Args:
        classes: For each option of ``CLASS_OPTIONS`` the classes that may be chosen; the default one where it is
            missing. None: classes are not known yet, and options of classes are left as they are written.

    Attributes:
        classes: The classes.
        typed: What was written for each option that was written otherwise.
    """

    def __init__(self, classes: Mapping[str, list[str]] | None = None) -> None:
        self._final, self.classes = classes is not None, dict(classes or {})
        hidden = {f"model.{name}" for name in LINKED}
        known = {argument.name for argument in arguments_of(command_parser("fit"))} - hidden | set(NAMING)
        for owner, option in CLASS_OPTIONS.items() if classes is not None else ():
            for name in (classes or {}).get(owner) or [option.default]:
                known |= {f"{owner}.{key}" for key in class_defaults(owner, name)}
        self._known = {name for name in known if not name.endswith(".help")}
        self._groups = {*CLASS_OPTIONS, "data", "model", "trainer"}
        self._by_last: dict[str, list[str]] = {}
        for name in sorted(self._known - {"help", "print_config"}):
            self._by_last.setdefault(name.rsplit(".", 1)[-1], []).append(name)
        self.typed: dict[str, str] = {}

    def find(self, written: str, value: Any = None) -> str:
        """The option that a name stands for; the name itself where it stands for none.

        Args:
            written: A dotted name, without dashes; ``+`` at its end adds to a list.
            value: Its value, for an answer.

        Raises:
            UserError: If several options could be meant, or what is meant is written in another way.
        """
        name, plus = written.removesuffix("+"), "+" if written.endswith("+") else ""
        if name in self._known or self._is_inside(name):
            return written
        found = name.replace("-", "_")
        found = found if found in self._known else self._expand(found, value)
        if found != name:
            self.typed[found] = name
        return found + plus

    def _expand(self, name: str, value: Any) -> str:
        *above, last = name.split(".")
        named = self._by_last.get(last) or self._by_last.get(last.lower(), [])
        fitting = [option for option in named if _fits(above, option)]
        fitting = [_FIRST[last]] if len(fitting) > 1 and _FIRST.get(last) in fitting else fitting
        if not fitting:
            meant = [option for option in OF_WORD.get(last.lower(), []) if option in self._known]
            fitting = [option for option in meant if _fits(above, option)][:1]
        if len(fitting) == 1:
            return fitting[0]
        if fitting and self._final:
            raise UserError(f"--{name} could be {' or '.join(fitting)}; write one of them, whole")
        for depth in range(len(above), 0, -1):  # options of a class that is named in short, such as optimizer.eps
            owner = self._expand(".".join(above[:depth]), None)
            if owner in NAMING and owner != ".".join(above[:depth]):
                return ".".join([owner, *above[depth:], last])
        if self._final:
            self._answer(name, last.lower(), value)
        return name

    def _is_inside(self, name: str) -> bool:
        """Whether a name stands below a list of classes, or below an option that takes a mapping of its own."""
        parts = name.split(".")
        above = [".".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(each in LISTS or (each in self._known and each not in self._groups) for each in above)

    def is_free(self, name: str) -> bool:
        """Whether a name stands within an option of a chosen class that is a mapping of no known types."""
        for owner, classes in self.classes.items():
            key = name.removeprefix(f"{owner}.")
            if key != name and "." in key:
                return all(key not in class_hints(owner, each) for each in classes)
        return False

    def _answer(self, name: str, word: str, value: Any) -> None:
        meant = [option for option in OF_WORD.get(word, []) if option in self._known]
        if meant:
            raise UserError(f"--{name} is no option; did you mean --{meant[0]}?")
        for option in OF_WORD.get(word, []):
            owner = option.rpartition(".")[0]
            if owner in CLASS_OPTIONS:
                chosen = self.classes.get(owner) or [CLASS_OPTIONS[owner].default]
                classes = " and ".join(each.rsplit(".", 1)[-1] for each in chosen)
                raise UserError(f"--{name} stands for {option}, which {classes} does not have")
        if word in ANSWERS:
            shown = "" if value is None or not isinstance(value, str | int | float) else f" {show(value)}"
            raise UserError(f"--{name}{shown} {ANSWERS[word](value)}")

    def rename(self, nested: Nested, where: str) -> Nested:
        """Options of a file, dotted or nested, under the names of the options that they stand for, in place.

        Args:
            nested: The options.
            where: What holds them, in the words of an error.

        Raises:
            UserError: As ``find``, or if one option is then given twice.
        """
        for path, value in list(_leaves(nested)):
            short = ".".join(part for part in path if part != "init_args")
            found = self.find(short, value)
            if found != short:
                _take_out(nested, path)
                join(nested, nest(found, value), where)
        return nested


@contextmanager
def naming(typed: Mapping[str, str]) -> Iterator[None]:
    """Within it, errors name an option also as it was written.

    Args:
        typed: What was written for each option that was written otherwise; it may still grow.

    Raises:
        UserError: As it is raised, with the name as it was written before that of the option.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for option, written in typed.items():
            if not re.search(rf"(?<![\w.]){re.escape(written)}(?![\w.])", message):
                message = re.sub(rf"(?<![\w.]){re.escape(option)}(?![\w.])", f"{written} ({option})", message, count=1)
        error.args = (message,)
        raise


def _fits(above: list[str], option: str) -> bool:
    """Whether parts of a name occur in an option's path, in order."""
    parents = iter(option.split(".")[:-1])
    return all(part in parents for part in above)


def _leaves(nested: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in nested.items():
        if isinstance(value, dict) and value and key != "dict_kwargs":
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _take_out(nested: Nested, path: tuple[str, ...]) -> None:
    """Removes a leaf, and mappings that are empty then."""
    places = [nested]
    for part in path[:-1]:
        places.append(places[-1][part])
    for place, part in zip(reversed(places), reversed(path), strict=True):
        del place[part]
        if place:
            break
