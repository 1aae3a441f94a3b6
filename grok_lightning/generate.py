"""Ask a checkpoint: ``generate CKPT PROMPT...``."""

import sys
from math import inf

import torch
from torch import Tensor

from grok_lightning.data import TableDataModule
from grok_lightning.errors import UserError
from grok_lightning.options.commands import TRUST, command_parser, parse
from grok_lightning.run import Run, load_run


@torch.no_grad()
def answer(
    run: Run,
    prompt: str,
    temperature: float = 0.0,
    top_k: int | None = None,
    max_new_tokens: int | None = None,
    generator: torch.Generator | None = None,
) -> str:
    """Continues one prompt, up to the end mark of its answer.

    Args:
        run: The loaded run.
        prompt: Such as ``91/7=``, or bare operands such as ``91 7``; of a model of text, how the string begins.
        temperature: 0 takes the most probable token; above, tokens are drawn from softmax(logits / temperature).
        top_k: Draws only from the k most probable tokens.
        max_new_tokens: At most that many tokens; default, and never more: as many as the longest answer may still have.
        generator: Where draws come from.

    Returns:
        The answer as written, without the prompt.

    Raises:
        UserError: If the prompt is no prompt of the run's data, or an option is out of range.
    """
    data = run.data
    prompt_T = data.encode(prompt)
    most = data.length + 1 - len(prompt_T)
    if max_new_tokens is not None and max_new_tokens < 1:
        raise UserError(f"--max_new_tokens is {max_new_tokens}; it must be at least 1")
    if not 0 <= temperature < inf:
        raise UserError(f"--temperature is {temperature}; it must be at least 0 and finite")
    if top_k is not None and not 1 <= top_k <= data.vocabulary_size:
        raise UserError(f"--top_k is {top_k}; it must lie between 1 and {data.vocabulary_size}, the vocabulary's size")
    tokens = [int(token) for token in prompt_T]
    for _ in range(most if max_new_tokens is None else min(most, max_new_tokens)):
        logits_V = run.model(torch.tensor([[tokens]]), 1)[0, 0, -1].float()
        tokens.append(_choose(logits_V, temperature, top_k, generator))
        if tokens[-1] == data.end:
            break
    return data.decode(tokens[len(prompt_T) :])


def find_gap(run: Run, prompt: str) -> str | None:
    """Why a prompt has no answer: a formula that is not defined there; None where it has one.

    Raises:
        UserError: If the prompt is no prompt of the run's data.
    """
    if not isinstance(run.data, TableDataModule):
        return None
    operation = run.data.operation
    _, defined = operation.formula.evaluate(operation.algebra, run.data.tokenizer.read(prompt))
    return None if defined[0] else f"the table has no such row: {operation.formula.text} is not defined there"


def _choose(logits_V: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(min(top_k, len(logits_V))).values[-1], -torch.inf)
    scaled_V = (logits_V - logits_V.max()).double() / temperature  # no temperature, however small, makes it NaN
    return int(torch.multinomial(scaled_V.softmax(-1), 1, generator=generator))


def generate_command(arguments: list[str]) -> int:
    """Runs ``generate`` and prints each prompt with its answer.

    Args:
        arguments: What follows ``generate`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If an option, the checkpoint or a prompt is not accepted.
    """
    parser = command_parser("generate", "Answers prompts with a checkpoint.", 'checkpoints/addition/0 "91+7=" "3 5"')
    parser.add_argument("checkpoint", type=str, help="Checkpoint file, or a folder of checkpoints.")
    parser.add_argument(
        "prompts", type=str, nargs="+", help="Prompts such as 91/7= or '91 7'; for text, its beginning."
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="Sampling temperature; 0: the most probable token."
    )
    parser.add_argument("--top_k", type=int | None, help="Sample from the k most probable tokens only.")
    parser.add_argument(
        "--max_new_tokens", type=int | None, help="Most tokens to generate; default: the longest answer."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the sampling.")
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    options = parse(parser, arguments)
    run = load_run(options.checkpoint, options.trust)
    generator = torch.Generator().manual_seed(options.seed % 2**63)
    for prompt in options.prompts:
        gap = find_gap(run, prompt)
        if gap is not None:
            print(run.data.show(prompt, f"({gap})"))
            continue
        text = answer(run, prompt, options.temperature, options.top_k, options.max_new_tokens, generator)
        print(run.data.show(prompt, text))
    if options.top_k is not None and options.temperature == 0:
        print("--top_k does nothing at temperature 0; give --temperature too", file=sys.stderr)
    return 0
