"""Output of ``sweep --dry-run``: runs, options that vary, stacks, and resources."""

from collections import Counter

from grok_lightning.sweep.plan.pending import Schedule
from grok_lightning.sweep.plan.runs import Plan
from grok_lightning.sweep.plan.sizes import Choice, find_budget
from grok_lightning.sweep.plan.stacking import find_watching

MOST_VALUES = 8


def format_outline(schedule: Schedule) -> str:
    """Summarize what a sweep would do, in a few lines."""
    plan, choice = schedule.plan, schedule.choice
    runs = [run for stack in schedule.stacks for run in stack.runs]
    over = sum(schedule.found.is_over(run, choice.retry_failed) for run in plan.runs)
    width = max(len(option) for option in plan.grid.options)
    base = plan.grid.base.name if plan.grid.base else "the defaults"
    lines = [f"{plan.name}: {len(plan.runs):,} runs of {base}, {over:,} over, {len(runs):,} to do"]
    for option, words in zip(plan.grid.options, plan.words, strict=True):
        values = list(words.values())
        some = ", ".join(values[:MOST_VALUES])
        more = f", ... ({len(values):,} values)" if len(values) > MOST_VALUES else ""
        lines.append(f"  varies     {option:<{width}}  {some}{more}")
    if plan.precision is not None:
        lines.append(f"  precision  {plan.precision}")
    sizes = sorted(Counter(len(stack.runs) for stack in schedule.stacks).items())
    stacks = ", ".join(f"{count:,} of {size} run{'s' * (size > 1)}" for size, count in sizes) or "none"
    lines.append(f"  stacks     {stacks}")
    watching = dict.fromkeys(option for block in plan.blocks for option in find_watching(block.resolved))
    if watching:
        lines.append(f"             one by one, for {' and '.join(watching)} watch single runs")
    lines += [f"             {line}" for line in plan.obstacles if choice.stack_size > 1]
    begun = sum(stack.begun for stack in schedule.stacks)
    if begun:
        lines.append(f"             {begun:,} of them go on from a checkpoint")
    threads = f"{choice.threads} thread{'s' * (choice.threads > 1)} each" if choice.threads else "torch's threads"
    lines.append(
        f"  workers    {choice.workers:,}, {threads}, about {_format_bytes(choice.worker_bytes)} of memory each"
        + (", models compiled" if choice.compile else "")
    )
    budgets = [find_budget(plan, run) for run in runs]
    lines.append(f"  budget     at most {max(budgets, default=0):,} steps a run, {sum(budgets):,} run-steps in all")
    lines.append(f"  disk       {_describe_disk(plan, choice, len(runs))}")
    if schedule.trajectory is not None:
        lines.append(f"             and {schedule.trajectory}")
    return "\n".join(lines)


def _describe_disk(plan: Plan, choice: Choice, runs: int) -> str:
    keep = choice.keep or str(plan.blocks[0].resolved["checkpoint"]["keep"])
    kept = {"last": 2, "grok": 1, "none": 0}[keep] * choice.size.checkpoint_bytes
    record = 60_000 + (160_000 if choice.events else 0)
    working = choice.workers * choice.stack_size * choice.size.checkpoint_bytes
    events = "with" if choice.events else "without"
    most = _format_bytes(runs * (kept + record) + working)
    return f"at most {most}: keep {keep}, {_format_bytes(kept)} of checkpoints a run; {events} events and figures"


def _format_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
