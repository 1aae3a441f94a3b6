"""The transformer in the form of TransformerLens: names and shapes of its weights, to there and back."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from grok_lightning.models.plain import PlainNetwork
from grok_lightning.models.transformer import Transformer

Form = Literal["same", "into heads", "bias of heads", "out of heads"]
Kind = Literal["LN", "RMS"] | None
# what its settings must be where they are stated; other values compute something else
_FIXED: dict[str, tuple[Any, ...]] = {
    "attention_dir": ("causal",), "positional_embedding_type": ("standard",), "attn_only": (False,),
    "parallel_attn_mlp": (False,), "gated_mlp": (False,), "use_attn_scale": (True,), "use_local_attn": (False,),
    "scale_attn_by_inverse_layer_idx": (False,), "post_embedding_ln": (False,), "final_rms": (False,),
    "use_normalization_before_and_after": (False,), "attn_scores_soft_cap": (-1.0,), "use_qk_norm": (False,),
    "output_logits_soft_cap": (-1.0,), "num_experts": (None,), "clip_qkv": (None,), "use_logn_attn": (False,),
}  # fmt: skip
_BUFFERS = re.compile(r"blocks\.\d+\.attn\.(mask|IGNORE)")


class Part(NamedTuple):
    """A weight in both forms: its name here, its name there, and how heads are laid out there."""

    ours: str
    theirs: str
    form: Form = "same"


def find_unfit(options: Mapping[str, Any]) -> tuple[str, Any, str] | None:
    """The first option of a ``Transformer`` of which TransformerLens has none: name, value, and what it has."""
    norm, final = options["norm"], options["final_norm"]
    unfit = [
        ("norm", norm, norm in ("post", "stream"), "pre or none"),
        ("final_norm", final, final not in (None, norm == "pre"), "null"),
        ("positions", options["positions"], options["positions"] == "rotary", "learned or sinusoidal"),
        ("activation", options["activation"], options["activation"] not in ("relu", "gelu"), "relu or gelu"),
    ]
    return next(((name, value, fit) for name, value, is_unfit, fit in unfit if is_unfit), None)


def norm_kind(options: Mapping[str, Any]) -> Kind:
    """The kind of a transformer's norms, in TransformerLens's words."""
    kinds: dict[str, Kind] = {"layer": "LN", "rms": "RMS"}
    return kinds[options["normalization"]] if options["norm"] == "pre" else None


def list_parts(layers: int, kind: Kind) -> list[Part]:
    """All weights but positions and unembedding, biases included."""
    parts = [Part("embeddings.tokens.weight", "embed.W_E")]
    norms = []
    for number in range(layers):
        ours, theirs = f"layers.{number}", f"blocks.{number}"
        for name, letter in (("query", "Q"), ("key", "K"), ("value", "V")):
            parts.append(Part(f"{ours}.attention.{name}.weight", f"{theirs}.attn.W_{letter}", "into heads"))
            parts.append(Part(f"{ours}.attention.{name}.bias", f"{theirs}.attn.b_{letter}", "bias of heads"))
        parts.append(Part(f"{ours}.attention.out.weight", f"{theirs}.attn.W_O", "out of heads"))
        parts.append(Part(f"{ours}.attention.out.bias", f"{theirs}.attn.b_O"))
        for name, word in (("inner", "in"), ("outer", "out")):
            parts.append(Part(f"{ours}.feedforward.{name}.weight", f"{theirs}.mlp.W_{word}"))
            parts.append(Part(f"{ours}.feedforward.{name}.bias", f"{theirs}.mlp.b_{word}"))
        norms += [(f"{ours}.attention_norm", f"{theirs}.ln1"), (f"{ours}.feedforward_norm", f"{theirs}.ln2")]
    for own, other in [*norms, ("final_norm", "ln_final")] if kind is not None else []:
        parts.append(Part(f"{own}.gain", f"{other}.w"))
        if kind == "LN":
            parts.append(Part(f"{own}.bias", f"{other}.b"))
    return parts


def to_lens(weight: Tensor, form: Form, heads: int) -> Tensor:
    """A weight in TransformerLens's layout."""
    if form == "into heads":
        return weight.unflatten(1, (heads, -1)).transpose(0, 1)
    return weight if form == "same" else weight.unflatten(0, (heads, -1))


def from_lens(weight: Tensor, form: Form) -> Tensor:
    """A weight of TransformerLens in the layout of a ``PlainNetwork``."""
    if form == "into heads":
        return weight.transpose(0, 1).flatten(1)
    return weight if form == "same" else weight.flatten(0, 1)


def read_lens_weights(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], network: Transformer, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """A ``HookedTransformer``'s weights as those of a network here.

    Positions beyond those that the network has are left out. Where its head has fewer outputs than the one here, the
    logit of each token beyond is the mean of the others, which is never the largest: the answers are the same for
    every input. A bias of its head goes into that of the head here, or else into the bias before the head.

    Args:
        state: Its state dict.
        settings: Its ``HookedTransformerConfig`` by name, as far as known.
        network: The network, a stack of one run.
        options: ``model.network``, resolved.

    Returns:
        The parameters of the ``PlainNetwork`` of the network, by their names.

    Raises:
        ValueError: If the network cannot compute the same; it says what differs, and which option would do.
    """
    _check_settings(settings, options)
    own: Mapping[str, Tensor] = PlainNetwork(network).state_dict()
    if "embeddings.tokens.weight" not in own:
        raise ValueError(
            "its embedding is one matrix, but model.network.embedding_rank asks for two; leave that out, or name with "
            "--init_parts what is taken"
        )
    state = {name: weight for name, weight in state.items() if not _BUFFERS.fullmatch(name)}
    _check_sizes(state, own, options, len(network.layers))
    kind, heads = norm_kind(options), options["heads"]
    folded = _check_norms(state, settings, kind)
    found: dict[str, Tensor] = {}
    known = {"pos_embed.W_pos", "unembed.W_U", "unembed.b_U"}
    for part in list_parts(len(network.layers), kind):
        known.add(part.theirs)
        weight = state.get(part.theirs)
        if folded and part.theirs.endswith((".w", ".b")):
            weight = torch.full((network.embedding.shape[2],), float(part.theirs.endswith(".w")))
        is_bias = part.ours.endswith(".bias")
        if part.ours not in own:
            if weight is not None and bool(weight.count_nonzero()):
                raise ValueError(
                    f"its {part.theirs!r} is not zero, but model.network.bias is {options['bias']}; true would do"
                )
            continue
        wanted = to_lens(own[part.ours], part.form, heads).shape
        if weight is None and is_bias:
            weight = torch.zeros(wanted)
        found[part.ours] = from_lens(_of_shape(weight, part.theirs, wanted), part.form)
    surplus = sorted(state.keys() - known)
    if surplus:
        raise ValueError(f"it has the weight {surplus[0]!r}, for which this run's model has no place")
    _take_positions(state, own, network, found)
    _take_head(state, own, network, found)
    return found


def _check_settings(settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    unfit = find_unfit(options)
    if unfit is not None:
        name, value, fit = unfit
        raise ValueError(
            f"it is a transformer of TransformerLens, which has only {fit}, but model.network.{name} is {value}"
        )
    for name, values in _FIXED.items():
        if name in settings and settings[name] not in values:
            raise ValueError(f"its {name} is {settings[name]!r}; a network here is as with {values[0]!r}")
    activation = settings.get("act_fn", options["activation"])
    if activation != options["activation"]:
        would = f"; {activation} would do" if activation in ("relu", "gelu") else ""
        raise ValueError(
            f"its act_fn is {activation!r}, but model.network.activation is {options['activation']}{would}"
        )
    eps = settings.get("eps", 1e-5)
    if options["norm"] != "none" and eps != 1e-5:
        raise ValueError(f"its eps is {eps}, that of norms here is 1e-05")
    scale, width = settings.get("attn_scale"), settings.get("d_head")
    if scale is not None and width is not None and scale > 0 and abs(scale - width**0.5) > 1e-6:
        raise ValueError(f"its attn_scale is {scale}, that of heads of {width} numbers here is {width**0.5}")


def _check_sizes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], options: Mapping[str, Any], layers: int
) -> None:
    """Refuses sizes that an option sets, by its name."""
    for name in ("embed.W_E", "blocks.0.attn.W_Q", "blocks.0.attn.W_O", "blocks.0.mlp.W_in", "unembed.W_U"):
        if name not in state:
            raise ValueError(f"its weight {name!r} is missing; a HookedTransformer with attention and MLP is expected")
    blocks = {int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d{1,6}\.", name)}
    embedding, query, inner = (state[name] for name in ("embed.W_E", "blocks.0.attn.W_Q", "blocks.0.mlp.W_in"))
    if (embedding.dim(), query.dim(), inner.dim()) != (2, 3, 2):
        raise ValueError("its weights have not the dimensions of a HookedTransformer's")
    feedforward = own["layers.0.feedforward.inner.weight"].shape[1]
    tokens, width = own["embeddings.tokens.weight"].shape
    for option, found, wanted in (
        ("layers", max(blocks) + 1, layers),
        ("width", embedding.shape[1], width),
        ("heads", query.shape[0], options["heads"]),
        ("feedforward", inner.shape[1], feedforward),
    ):
        if found != wanted:
            raise ValueError(f"its weights are those of model.network.{option} {found}; this run's is {wanted}")
    if len(embedding) != tokens:
        more = "without a token for the operator: use data.operator_token false"
        hint = f" (it may be {more})" if len(embedding) == tokens - 1 else ""
        raise ValueError(
            f"its weight 'embed.W_E' is of {len(embedding)} tokens; this run's vocabulary has {tokens}{hint}"
        )


def _check_norms(state: Mapping[str, Tensor], settings: Mapping[str, Any], kind: Kind) -> bool:
    """Refuses norms of another kind; returns whether they are of this kind, but their gains are in other weights."""
    theirs = settings.get("normalization_type")
    found = theirs.removesuffix("Pre") if theirs in ("LNPre", "RMSPre") else None
    if "blocks.0.ln1.w" in state:
        found = "LN" if "blocks.0.ln1.b" in state else "RMS"
    if found != kind:
        options = {"LN": "norm pre", "RMS": "norm pre and model.network.normalization rms", None: "norm none"}
        words = {"LN": "layer norms", "RMS": "RMS norms", None: "no norms"}
        raise ValueError(
            f"it has {words[found]}, this run's model has {words[kind]}; model.network.{options[found]} would do"
        )
    return kind is not None and "blocks.0.ln1.w" not in state


def _of_shape(weight: Tensor | None, name: str, wanted: torch.Size) -> Tensor:
    if weight is None:
        raise ValueError(f"its weight {name!r} is missing; this run's has shape {tuple(wanted)}")
    if weight.shape != wanted:
        raise ValueError(f"its weight {name!r} has shape {tuple(weight.shape)}, this run's has shape {tuple(wanted)}")
    return weight


def _take_positions(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], network: Transformer, found: dict[str, Tensor]
) -> None:
    fixed, name = network.embeddings.sinusoidal, "pos_embed.W_pos"
    wanted = own["embeddings.positions.weight"] if fixed is None else fixed
    theirs = state.get(name)
    if theirs is None or theirs.dim() != 2 or len(theirs) < len(wanted):
        raise ValueError(
            f"its weight {name!r} is {'missing' if theirs is None else f'of shape {tuple(theirs.shape)}'}; "
            f"this run's has shape {tuple(wanted.shape)}"
        )
    theirs = _of_shape(theirs[: len(wanted)], name, wanted.shape)
    if fixed is None:
        found["embeddings.positions.weight"] = theirs
    elif not torch.allclose(theirs.to(fixed), fixed, atol=1e-6):
        raise ValueError("its positions are not sinusoids; model.network.positions learned would do")


def _take_head(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], network: Transformer, found: dict[str, Tensor]
) -> None:
    outputs, width = network.outputs, network.embedding.shape[2]
    weight = state["unembed.W_U"]
    bias = state.get("unembed.b_U", torch.zeros(weight.shape[-1:]))
    if weight.dim() != 2 or len(weight) != width or weight.shape[1] > outputs or bias.shape != weight.shape[1:]:
        fewer = outputs < network.embeddings.vocabulary
        raise ValueError(
            f"its weight 'unembed.W_U' has shape {tuple(weight.shape)}; ({width}, {outputs}) is expected"
            f"{' with model.outputs answers; vocabulary may do' if fewer else ''}"
        )
    beyond = outputs - weight.shape[1]
    if beyond:
        weight, bias = (
            torch.cat([part, part.mean(-1, True).expand(*part.shape[:-1], beyond)], -1) for part in (weight, bias)
        )
    if network.head is not None:
        found["head.weight"] = weight
    elif not torch.equal(weight, found["embeddings.tokens.weight"][:outputs].T):
        raise ValueError("its head is not its embedding; model.network.tied false would do")
    if "head.bias" in own:
        found["head.bias"] = bias
    elif bool(bias.count_nonzero()):
        _move_bias(bias, weight, network, found)


def _move_bias(bias: Tensor, weight: Tensor, network: Transformer, found: dict[str, Tensor]) -> None:
    """Adds a head's bias to the bias that is added right before the head: b = c W for some c, where W has the rank."""
    normed = "final_norm.gain" in found
    name = "final_norm.bias" if normed else f"layers.{len(network.layers) - 1}.feedforward.outer.bias"
    if name in found:
        added = torch.linalg.lstsq(weight.double().T, bias.double()[:, None]).solution[:, 0]
        moved = (found[name].double() + added).to(network.embedding.dtype)
        error = (moved.double() - found[name].double()) @ weight.double() - bias.double()
        if float(error.abs().max()) <= 1e-6 * max(1.0, float(bias.abs().max())):
            found[name] = moved
            return
    raise ValueError(
        "its 'unembed.b_U' is not zero, but the head of this run's model has no bias, and no other bias can hold it; "
        "model.network.head_bias true would do"
    )
