"""Learning rate over the steps of a training."""

from math import cos, pi

from landfold.network.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0, of ``steps``.

    One-cycle is that of Smith and Topin 2018 (arXiv:1708.07120) as torch has it: cosine from 1/25 of the maximum over
    the first 30 % of the steps, then cosine to almost 0. The linear warm-up of the other schedules reaches the maximum
    with its last step.
    """
    top = settings.learning_rate
    warmup = round(settings.warmup_epochs / settings.epochs * steps)
    if step < warmup:
        return top * (step + 1) / warmup
    if settings.schedule == "constant":
        return top
    if settings.schedule == "cosine":
        return top * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2
    peak = 0.3 * steps - 1
    if step < peak:
        start = top / 25
        return start + (top - start) * (1 - cos(pi * step / peak)) / 2
    end = top / 250_000
    return end + (top - end) * (1 + cos(pi * (step - peak) / (steps - 1 - peak))) / 2
