"""Rescues: an `images.zip` in the middle of training, for the case that there is no end."""

from __future__ import annotations

import contextlib

from kit.run import budget, images_zip
from kit.run.context import RunContext
from kit.training.run_record import InterimZip


class Rescuer:
    """Writes rescues of one run whenever they are worth their time."""

    def __init__(self, work: RunContext) -> None:
        self._work = work
        self._rescues = budget.Rescues(work.job.budget_s) if work.job.budget_s else None
        if self._rescues and work.images.exists():
            for taken in work.run.record.interim_zips:  # by earlier parts
                self._rescues.took(taken.ended_s, cost_s=taken.seconds)

    def look(self) -> None:
        """Writes one if it is time for it.

        Raises:
            KitError: the disk is full.
        """
        work = self._work
        if not (work.plan and self._rescues):
            return
        now = work.clock.seconds()
        cost_s = budget.finish_seconds(work.plan)
        if now + cost_s >= work.plan.deadline_s or not self._rescues.due(now, cost_s=cost_s):
            return
        work.save()
        with contextlib.suppress(images_zip.AbandonedError):
            images_zip.deliver(work)
            ended = work.clock.seconds()
            self._rescues.took(ended, cost_s=ended - now)
            work.run.record.interim_zips.append(
                InterimZip(at=work.state.pictures, seconds=round(ended - now, 3), ended_s=round(ended, 3))
            )
            work.run.save()
