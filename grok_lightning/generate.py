"""Ask a checkpoint: ``generate CKPT PROMPT...``."""

import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

from grok_lightning.classes import suggestion
from grok_lightning.errors import UserError
from grok_lightning.runs import Run, load_run

OPTIONS = ("temperature", "top_k", "max_new_tokens", "seed")


@torch.no_grad()
def answer(
    run: Run,
    prompt: str,
    temperature: float = 0.0,
    top_k: int | None = None,
    max_new_tokens: int | None = None,
    generator: torch.Generator | None = None,
) -> str:
    """Continues one prompt.

    Args:
        run: The loaded run.
        prompt: Such as ``91/7=``, or bare operands such as ``91 7``.
        temperature: 0 takes the most probable token; above, tokens are drawn from softmax(logits / temperature).
        top_k: Draws only from the k most probable tokens.
        max_new_tokens: At most that many tokens, up to the answer's length, the default.
        generator: Where draws come from.

    Returns:
        The answer as written.

    Raises:
        UserError: If the prompt is no prompt of the run's table, or an option is out of range.
    """
    data = run.data
    length = data.answer_length
    wanted = length if max_new_tokens is None else max_new_tokens
    if not 1 <= wanted <= length:
        raise UserError(f"--max-new-tokens is {wanted}; this model answers with {length} token(s): 1 to {length}")
    if temperature < 0:
        raise UserError(f"--temperature is {temperature}; it must be at least 0")
    if top_k is not None and not 1 <= top_k <= data.vocabulary_size:
        raise UserError(f"--top-k is {top_k}; it must lie between 1 and {data.vocabulary_size}, the vocabulary's size")
    tokens = data.tokens(data.tokenizer.read(prompt))
    answer_tokens: list[int] = []
    for _ in range(wanted):
        logits_V = run.model(tokens, 1)[0, 0, -1].float()
        answer_tokens.append(_choose(logits_V, temperature, top_k, generator))
        tokens = torch.cat([tokens, torch.tensor([[[answer_tokens[-1]]]])], dim=-1)
    return "".join(data.tokenizer.vocabulary[token] for token in answer_tokens)


def _choose(logits_V: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    if top_k is not None:
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(top_k).values[-1], -torch.inf)
    return int(torch.multinomial((logits_V / temperature).softmax(-1), 1, generator=generator))


def generate_command(arguments: list[str]) -> int:
    """Runs ``generate`` and prints each prompt with its answer.

    Args:
        arguments: What follows ``generate`` on the command line.

    Returns:
        The exit status, 0.
    """
    parser = ArgumentParser(prog="grok-lightning generate", exit_on_error=False, description="Ask a checkpoint.")
    parser.add_argument("checkpoint", type=str, help="A checkpoint file, or a directory of them.")
    parser.add_argument("prompts", type=str, nargs="+", help="Such as 91/7= or bare operands, '91 7'.")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the most probable token.")
    parser.add_argument("--top_k", type=int | None, help="Draw only from the k most probable tokens.")
    parser.add_argument("--max_new_tokens", type=int | None, help="Default: the answer's length.")
    parser.add_argument("--seed", type=int, default=0, help="Of the draws at a temperature above 0.")
    try:
        options = parser.parse_args(_spelled_out(arguments))
    except ArgumentError as error:
        raise UserError(f"generate: {' '.join(str(error).split())[:200]}; expected: CKPT PROMPT...") from None
    run = load_run(options.checkpoint)
    generator = torch.Generator().manual_seed(options.seed)
    for prompt in options.prompts:
        text = answer(run, prompt, options.temperature, options.top_k, options.max_new_tokens, generator)
        print(f"{prompt if prompt.rstrip().endswith('=') else prompt + ' ='} {text}")
    return 0


def _spelled_out(arguments: list[str]) -> list[str]:
    """Dashes within option names as underscores; refuses names that are no option, abbreviations included."""
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            key = name[2:].replace("-", "_")
            if key not in (*OPTIONS, "help"):
                raise UserError(f"{name} is no option of generate{suggestion(key, OPTIONS, '--')}")
            argument = f"--{key}{equals}{value}"
        spelled.append(argument)
    return spelled
