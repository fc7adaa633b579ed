"""The width that fits a budget: the widest network whose pictures, at the speed of this machine, make it worth it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

from kit.core.threads import numbers
from kit.run import planning
from kit.run.context import RunContext
from kit.training import memory
from kit.training.run_record import WidthRecord, WidthTrial

log = logging.getLogger(__name__)

TRIAL_S = 0.25
"""Seconds of training that a width is measured over, at least a step, after one that does not count."""

TRIAL_COUNT = 32
"""Pictures generated to learn what the zip of a width costs."""

Measure = Callable[[int], int | None]
"""From a width to the pictures that the budget lets it see; None: it does not fit into the memory."""


def choose(needs: Sequence[tuple[int, int]], measure: Measure) -> tuple[int, list[WidthTrial]]:
    """The widest whose pictures suffice; the narrowest where none do.

    The narrowest is measured first. It is the fastest, so no wider one that needs more pictures than it sees is tried.

    Args:
        needs: (width, pictures that make it worth it), narrowest first.
        measure: called for each width that has to be tried.

    Returns:
        (width, what was measured, in the order of the trials).
    """
    trials: list[WidthTrial] = []

    def fits(width: int, need: int) -> bool:
        sees = measure(width)
        trials.append(WidthTrial(width=width, needs=need, sees=sees))
        return sees is not None and sees >= need

    narrowest = needs[0][0]
    fits(*needs[0])
    most = trials[0].sees
    if most is not None:
        for width, need in reversed(needs[1:]):
            if need <= most and fits(width, need):
                return width, trials
    return narrowest, trials


def choose_width(context: RunContext) -> None:
    """Chooses a run's width by its ladder, says which and why, and records it.

    A run that goes on keeps its width. Where several processes ran out of memory, they have begun again, and the record
    says at which width.

    Raises:
        KitError: the budget leaves no time to train.
    """
    config, record = context.config, context.run.record
    begun = record.width
    if not config.ladder or config.budget_s is None or (record.parts and (begun is None or begun.chosen is not None)):
        return
    recipes = {recipe.width: (pictures, recipe) for pictures, recipe in config.ladder}
    known = {trial.width: trial.sees for trial in begun.trials} if begun else {}
    choice = WidthRecord(chosen=None, budget_s=config.budget_s, trials=[])

    def measure(width: int) -> int | None:
        need, recipe = recipes[width]
        if width not in known:
            # Where it does not fit, several processes end at once: what they leave behind has to say so.
            record.width = dataclasses.replace(choice, trials=[*choice.trials, WidthTrial(width, need, None)])
            context.use_recipe(recipe)
            known[width] = _pictures(context, config.budget_s or 0.0)
            if known[width] is None:
                log.warning("width %d does not fit into the memory of %s", width, context.device.name)
        choice.trials.append(WidthTrial(width, need, known[width]))
        return known[width]

    chosen, trials = choose([(width, need) for width, (need, _) in recipes.items()], measure)
    context.use_recipe(recipes[chosen][1])
    record.width = dataclasses.replace(choice, chosen=chosen, trials=trials)
    log.info("%s", describe(record.width, {width: need for width, (need, _) in recipes.items()}))


def describe(choice: WidthRecord, needs: dict[int, int]) -> str:
    """The choice in one line.

    Args:
        choice: that was made.
        needs: pictures that each width of the ladder needs.
    """
    sees = {trial.width: trial.sees for trial in choice.trials}
    chosen = choice.chosen or min(needs)
    following = min((width for width in needs if width > chosen), default=None)
    if following is None:
        seen = _round(sees[chosen] or 0)
        return f"width {chosen}: it would see {seen} pictures in this budget and needs {_round(needs[chosen])}"
    if following in sees:
        seen_by, bound = sees[following], ""
    else:
        seen_by, bound = sees[min(needs)], "less than "  # what the narrowest sees, which is faster
    if seen_by is None:
        return f"width {chosen}: {following} does not fit into the memory"
    if seen_by == 0:
        return f"width {chosen}: {following} needs {_round(needs[following])} pictures"
    would = f"{following} would see {bound}{_round(seen_by)} pictures in this budget"
    return f"width {chosen}: {would} and needs {_round(needs[following])}"


def _pictures(context: RunContext, budget_s: float) -> int | None:
    """Pictures that the context's recipe would see in what is left of the budget; None where memory is short."""
    available = context.available_threads
    tried = numbers(available) if planning.chooses_threads(context) else [available]
    try:
        rate = max(context.trainer.rate(context.clock, threads=number, seconds=TRIAL_S) for number in tried)
        reserve_s, _ = planning.measure_reserve(context, trial=TRIAL_COUNT)
    except (MemoryError, RuntimeError) as error:
        if context.trainer.distributed.size > 1 or not memory.ran_out(error):
            raise
        rate = None
    if rate is None:  # here, as the error held on to the tensors of its step
        memory.free()
        return None
    for_scores = context.config.scores.share if context.config.scores else 0.0
    return max(round(rate * (1 - for_scores) * (budget_s - context.clock.seconds() - reserve_s)), 0)


def _round(pictures: int) -> str:
    """A number of pictures, to two digits: 91234 → 91,000, 1000000 → 1 million."""
    if pictures >= 1_000_000:
        return f"{pictures / 1e6:.2g} million"
    digits = len(str(pictures)) - 2
    return f"{round(pictures, -digits) if digits > 0 else pictures:,}"
