"""What each measure costs, against a step and an evaluation in the same process: ``python benchmarks/measures.py``.

Prints for each measure its time in training steps, and its part of a run of 20,000 steps at the default evaluations:
the time of all its computations on its own schedule over that of the steps. Options of ``fit`` may follow, such as
``--data.modulus 23``; ``--rounds N`` repeats everything N times, of which medians are taken.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

import grok_lightning.measures
from grok_lightning.build import build
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.measures import Measure, Objective, View
from grok_lightning.options.parsing import resolve

STEPS = 20_000


def main(arguments: list[str]) -> int:
    """Times all measures that the task takes."""
    rounds = 5
    if "--rounds" in arguments:
        place = arguments.index("--rounds")
        rounds = int(arguments[place + 1])
        arguments = arguments[:place] + arguments[place + 2 :]
    torch.set_num_threads(1)
    module, data = build(resolve(["fit", "--config", "addition", "--threads", "1", *arguments]).options)
    optimizer = module.new_optimizer(module.network.named_parameters())
    device = torch.device("cpu")

    def step() -> None:
        batch = data.training_batch(0, device)
        losses_R = module._losses(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, None)
        optimizer.zero_grad()
        (losses_R / batch.whole).sum().backward()
        optimizer.step()

    def view() -> View:
        found = View(module.network, data, objective=Objective(module.loss, module.targets))
        _ = found.logits_RNAV  # which an evaluation has
        return found

    taken = {}
    for name in sorted(grok_lightning.measures.__all__):
        kind = getattr(grok_lightning.measures, name)
        if isinstance(kind, type) and issubclass(kind, Measure) and kind is not Measure:
            measure = kind()
            try:
                measure.check(module.network, data)
            except UserError as error:
                print(f"{name}: left out, {error}")
                continue
            taken[name] = measure
    seconds = measure_all(step, view, taken, rounds)
    one = seconds["step"]
    print(f"step {1000 * one:.2f} ms, pass over the table {seconds['evaluation'] / one:.1f} steps")
    for name, measure in taken.items():
        count = sum(_is_due(measure, point) for point in _points())
        share = count * seconds[name] / (STEPS * one)
        print(f"{name:20} {seconds[name] / one:8.1f} steps, {count:3} times in {STEPS:,}: {share:6.1%} of a run")
    return 0


def measure_all(
    step: Callable[[], None], view: Callable[[], View], taken: dict[str, Measure], rounds: int
) -> dict[str, float]:
    """Median seconds of a step, of a pass over the table and of each measure, taken in turn."""
    seconds: dict[str, list[float]] = {}

    def clock(name: str, function: Callable[[], object], times: int = 1) -> None:
        start = time.perf_counter()
        for _ in range(times):
            function()
        seconds.setdefault(name, []).append((time.perf_counter() - start) / times)

    for _ in range(rounds + 1):  # the first round is not counted
        clock("step", step, 20)
        clock("evaluation", view)
        for name, measure in taken.items():
            now = view()
            clock(name, lambda measure=measure, now=now: measure(now))  # type: ignore[misc]
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def _points() -> list[int]:
    schedule = EvaluationSchedule()
    return [step for step in range(STEPS + 1) if schedule.is_point(step)]


def _is_due(measure: Measure, step: int) -> bool:
    measures = Measures.__new__(Measures)
    measures.schedule = EvaluationSchedule()
    return measures._is_due(measure, step)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
