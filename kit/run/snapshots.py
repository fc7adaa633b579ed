"""The candidates of a run: averages of its generator kept on the way, and which of them the pictures come from."""

from __future__ import annotations

import contextlib
import dataclasses
import logging

from torch import nn

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import require_space
from kit.models.recipe import Recipe
from kit.scoring.candidates import PeriodicScorer, ScoringStoppedError
from kit.scoring.score_record import Score, comparable
from kit.training import checkpoint
from kit.training.checkpoint import Shape
from kit.training.run_folder import CANDIDATES, CHECKPOINT, Run
from kit.training.run_record import CandidateRecord
from kit.training.train_state import TrainState

log = logging.getLogger(__name__)

KEPT = 5
"""Candidates that are kept beside the last state: the best scored ones."""

MOMENTS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the training after which a candidate is kept where none is scored."""


class Snapshots:
    """Keeps candidates while a run trains, scores them where that was asked for, and knows the best.

    `run.json` lists them under `candidates`: pictures seen, seconds, file (null once it was given up), score or null.

    Args:
        run: the run's folder and record.
        state: what trains; never changed.
        recipe: of the run.
        shape: what the networks were built for.
    """

    def __init__(self, run: Run, state: TrainState, recipe: Recipe, shape: Shape) -> None:
        self._run, self._state, self._recipe, self._shape = run, state, recipe, shape
        self.scorer: PeriodicScorer | None = None  # scores them; None: they are kept without scores

    @property
    def reserve_s(self) -> float:
        """Seconds to keep back for the score of the last state."""
        return self.scorer.cost_s if self.scorer else 0.0

    def ticked(self, now_s: float, progress: float) -> None:
        """Keeps the present average where it is time for that.

        Args:
            now_s: seconds of the run.
            progress: of the training, how much is done, 0 to 1.
        """
        if self.scorer:
            if self.scorer.due(now_s):
                self._score(self.scorer, now_s)
            return
        past = [moment for moment in MOMENTS if moment <= progress]
        if progress < 1 and len(self._entries) < len(past):
            self._add(now_s, None)

    def score_last(self, now_s: float) -> None:
        """Scores the last state, so that it is a candidate like the others."""
        if self.scorer and (not self._entries or self._entries[-1].pictures != self._state.pictures):
            self._score(self.scorer, now_s)

    def forget_after(self, pictures: int) -> None:
        """Drops candidates of a way that training does not take again: it goes on from `pictures`."""
        for entry in self._entries:
            if entry.pictures > pictures:
                self._delete(entry)
        self._run.record.candidates = [entry for entry in self._entries if entry.pictures <= pictures]

    def best(self) -> tuple[nn.Module, int]:
        """The average that pictures are to be drawn from, and the pictures it had seen.

        It is the best scored one; where none is scored, or its file is damaged, the present one.
        """
        present = self._state.ema.module, self._state.pictures
        ranked = rank([entry for entry in self._entries if entry.file])
        if not ranked or ranked[0].pictures == self._state.pictures:
            return present
        path = self._run.path / (ranked[0].file or "")
        try:
            return checkpoint.load_ema(path, self._state.ema.module), ranked[0].pictures
        except KitError as error:
            log.info(f"{error}; the last state is taken instead")
            return present

    # ---- what is kept

    @property
    def _entries(self) -> list[CandidateRecord]:
        return self._run.record.candidates

    def _score(self, scorer: PeriodicScorer, now_s: float) -> None:
        with contextlib.suppress(ScoringStoppedError):
            self._add(now_s, scorer.score(self._state.ema.module))

    def _add(self, now_s: float, score: Score | None) -> None:
        pictures = self._state.pictures
        name = f"{CANDIDATES}/{pictures:010d}.pt"
        path = self._run.path / name
        try:
            # A checkpoint is written beside the old one; a candidate is not worth that room.
            require_space(path, 2 * (self._run.path / CHECKPOINT).stat().st_size)
            checkpoint.save_ema(path, self._state, self._recipe, self._shape)
        except KitError as error:
            log.info(f"no candidate of {pictures:,} pictures is kept ({error.problem})")
            return
        scored = score.to_json() if score else None
        self._entries.append(CandidateRecord(pictures=pictures, seconds=round(now_s, 3), file=name, score=scored))
        if score:
            best = rank(self._entries)
            for worse in best[KEPT:]:
                self._delete(worse)
                self._entries[self._entries.index(worse)] = dataclasses.replace(worse, file=None)
            first = best[0].pictures == pictures
            log.info(
                f"{pictures:,} pictures: FID {score.fid:.2f} on {score.features.name}, {score.count:,} pictures, "
                f"in {show_duration(max(1, score.seconds))}{'; the best so far' if first else ''}"
            )
        self._run.save()

    def _delete(self, entry: CandidateRecord) -> None:
        if entry.file:
            (self._run.path / entry.file).unlink(missing_ok=True)


def rank(entries: list[CandidateRecord]) -> list[CandidateRecord]:
    """The entries of `candidates` whose scores may stand in one ranking with the last scored one's, best first.

    Candidates too near to the training set come last, however low their FID.
    """
    scored = [(entry, Score.from_json(entry.score)) for entry in entries if entry.score]
    alike = [(entry, score) for entry, score in scored if comparable(score, scored[-1][1]) is None]
    return [entry for entry, _ in sorted(alike, key=lambda pair: pair[1].rank_key)]
