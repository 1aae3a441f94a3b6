"""A trained network for other programs: ``export CKPT --format torch|safetensors|transformer_lens|onnx``."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grok_lightning.errors import UserError, show
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.models.lens import find_unfit, list_parts, norm_kind, to_lens
from grok_lightning.models.plain import PlainNetwork
from grok_lightning.models.transformer import Transformer
from grok_lightning.options.commands import TRUST, command_parser, parse
from grok_lightning.records.checkpoint import refuse_part_of_run
from grok_lightning.run import Run, load_run


def describe(run: Run) -> dict[str, Any]:
    """What a reader of the weights needs: the run's options, its vocabulary and the shape of its equations."""
    data = run.data
    return {
        "config": run.config,
        "step": run.step,
        "vocabulary": list(data.vocabulary),
        "length": data.length,
        "answer_length": data.answer_length,
    }


def to_transformer_lens(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The run's network in the form of TransformerLens.

    Args:
        run: A run of a transformer.

    Returns:
        The arguments of ``HookedTransformerConfig``, and a state dict that ``HookedTransformer.load_state_dict`` takes.

    Raises:
        UserError: If TransformerLens has no such network; the option is named.
    """
    network, options = run.model, run.config["model"]["network"]
    if not isinstance(network, Transformer):
        raise UserError(f"--format is transformer_lens, but model.network is {network._get_name()}; use torch or onnx")
    if network.padded:
        raise UserError(
            "--format is transformer_lens, but these equations are padded, which it does not mask; use torch"
        )
    unfit = find_unfit(options)
    if unfit is not None:
        name, value, fit = unfit
        raise UserError(f"--format is transformer_lens, but model.network.{name} is {value}; it has only {fit}")
    plain = PlainNetwork(network).state_dict()
    plain["embeddings.tokens.weight"] = network.embedding.detach()[0]  # of two factors their product
    vocabulary, width = network.embedding.shape[1:]
    heads, length = options["heads"], run.data.length
    inner = plain["layers.0.feedforward.inner.weight"].shape[1]
    kind = norm_kind(options)
    config = {
        "n_layers": len(network.layers), "d_model": width, "d_head": width // heads, "n_heads": heads, "d_mlp": inner,
        "n_ctx": length, "d_vocab": vocabulary, "d_vocab_out": network.outputs, "act_fn": options["activation"],
        "normalization_type": kind, "eps": 1e-5, "attention_dir": "causal", "positional_embedding_type": "standard",
    }  # fmt: skip
    fixed = network.embeddings.sinusoidal
    positions = plain["embeddings.positions.weight"] if fixed is None else fixed
    state = {"pos_embed.W_pos": positions}
    for part in list_parts(len(network.layers), kind):
        weight = plain.get(part.ours)
        if weight is None:  # a bias that it always has
            owner = part.ours.removesuffix("bias")
            weight = torch.zeros(plain[f"{owner}weight" if f"{owner}weight" in plain else f"{owner}gain"].shape[-1])
        state[part.theirs] = to_lens(weight, part.form, heads)
    state["unembed.W_U"] = network.unembedding.detach()[0]
    state["unembed.b_U"] = plain.get("head.bias", torch.zeros(network.outputs))
    return config, {name: value.detach().clone().contiguous() for name, value in state.items()}


def _as_pickle(content: dict[str, Any]) -> bytes:
    torch.save(content, buffer := io.BytesIO())
    return buffer.getvalue()


def _to_torch(run: Run) -> bytes:
    return _as_pickle({**describe(run), "state_dict": run.plain().state_dict()})


def _to_safetensors(run: Run) -> bytes:
    from safetensors.torch import save

    # copies, for it takes no tensor under two names
    weights = {
        name: weight.clone(memory_format=torch.contiguous_format) for name, weight in run.plain().state_dict().items()
    }
    content: bytes = save(weights, {name: json.dumps(value) for name, value in describe(run).items()})
    return content


def _to_lens(run: Run) -> bytes:
    config, state = to_transformer_lens(run)
    return _as_pickle({**describe(run), "transformer_lens_config": config, "state_dict": state})


def _to_onnx(run: Run) -> bytes:
    tokens_BT = torch.zeros(3, run.data.length, dtype=torch.int64)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # which tells of packages that nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            run.plain(),
            (tokens_BT,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["tokens"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    for name, value in describe(run).items():
        program.model.metadata_props[name] = json.dumps(value)
    content: bytes = program.model_proto.SerializeToString()
    return content


FORMS: dict[str, Callable[[Run], bytes]] = {
    "torch": _to_torch,
    "safetensors": _to_safetensors,
    "transformer_lens": _to_lens,
    "onnx": _to_onnx,
}
ENDINGS = {".pt": "torch", ".safetensors": "safetensors", ".onnx": "onnx"}
NEEDED = {"safetensors": "safetensors", "onnx": "onnxscript"}


def export(run: Run, form: str, path: Path) -> None:
    """Writes a run's network for other programs; from tokens (B, T) to logits (B, A, V), or with fewer classes
    than tokens of the first of these.

    Args:
        run: The run.
        form: ``torch`` (``torch.load`` gives a dictionary: the weights without R under ``state_dict``, options,
            vocabulary), ``safetensors`` (the same, all but the weights as JSON in its metadata), ``transformer_lens``
            (as ``torch``, in TransformerLens's form), or ``onnx`` (input ``tokens``, output ``logits``).
        path: File to write.

    Raises:
        UserError: If the format is none of these, needs a package that is not installed, or has no such network; or
            the file cannot be written, or is a checkpoint or the record of a run.
    """
    if form not in FORMS:
        raise UserError(f"--format is {form!r}; expected: {', '.join(FORMS)}")
    package = NEEDED.get(form)
    if package is not None and find_spec(package) is None:
        raise UserError(f"--format is {form}, which needs the package {package}: pip install {package}")
    refuse_unwritable("output", path.parent)
    if path.is_dir() or not path.name:
        raise UserError(f"--output is {str(path)!r}; the path of a file is expected")
    refuse_part_of_run(path)
    write_durably(path, FORMS[form](run))


def _format_of(output: str | None) -> str:
    """The format that the ending of a file says."""
    if output is None:
        return "torch"
    form = ENDINGS.get(Path(output).suffix.lower())
    if form is None and not Path(output).is_dir():
        raise UserError(f"--output is {show(output)}; end it with {', '.join(ENDINGS)}, or give --format")
    return form or "torch"


def export_command(arguments: list[str]) -> int:
    """Runs ``export``.

    Args:
        arguments: What follows ``export`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: As ``export``; or if the checkpoint is none, or neither an option nor the ending says the format.
    """
    parser = command_parser(
        "export", "Writes a trained network for other programs.", "checkpoints/addition/0 --output addition.onnx"
    )
    parser.add_argument("checkpoint", type=str, help="Checkpoint file, or a folder of checkpoints.")
    parser.add_argument("--output", type=str, help="File to write; default: network.<ending of the format>.")
    parser.add_argument("--format", type=str, help="torch, safetensors, transformer_lens, onnx; default: by ending.")
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    options = parse(parser, arguments)
    form = options.format or _format_of(options.output)
    path = Path(options.output or f"network{next((e for e, known in ENDINGS.items() if known == form), '.pt')}")
    export(load_run(options.checkpoint, options.trust), form, path)
    print(f"{form}: {path}")
    return 0
