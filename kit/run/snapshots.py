"""The candidates of a run: generators kept on the way, and which of them the pictures come from.

They are averages of G. A translation also keeps G itself at its end: where the learning rate falls to 0, its entrants
found G better than an average that lags behind.
"""

from __future__ import annotations

import contextlib
import copy
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
from kit.training.run_folder import CHECKPOINT, Candidate, Run
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
        self._last = (False, True) if recipe.task == "translation" else (False,)  # raw or not, of the last state
        self.scorer: PeriodicScorer | None = None  # scores them; None: they are kept without scores

    @property
    def reserve_s(self) -> float:
        """Seconds to keep back for the scores of the last state."""
        return len(self._last) * self.scorer.cost_s if self.scorer else 0.0

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

    def finish(self, now_s: float) -> None:
        """Makes the last state a candidate like the others: scored where they are, and G itself of a translation."""
        known = {(entry.pictures, entry.raw) for entry in self._entries}
        for raw in self._last:
            if (self._state.pictures, raw) in known:
                continue
            if self.scorer:
                self._score(self.scorer, now_s, raw=raw)
            elif raw:  # the average stands in the checkpoint
                self._add(now_s, None, raw=True)

    def forget_after(self, pictures: int) -> None:
        """Drops candidates of a way that training does not take again: it goes on from `pictures`."""
        for entry in self._entries:
            if entry.pictures > pictures:
                self._delete(entry)
        self._run.record.candidates = [entry for entry in self._entries if entry.pictures <= pictures]

    def best(self, replayed: Candidate | None = None) -> tuple[nn.Module, Candidate]:
        """The generator that pictures are to be drawn from, and which it is.

        It is the best scored one; where none is scored, or its file is damaged, the present average.

        Args:
            replayed: the one that was taken in a run that is made again.
        """
        ranked = rank([entry for entry in self._entries if entry.file])
        now = Candidate(self._state.pictures)
        best = Candidate(ranked[0].pictures, ranked[0].raw) if ranked else replayed or now
        if ranked and best.pictures != now.pictures:
            try:
                return checkpoint.load_ema(self._run.path / best.file, self._state.ema.module), best
            except KitError as error:
                log.info(f"{error}; the last state is taken instead")
        present = best if best.pictures == now.pictures else now
        return self._present(raw=present.raw), present

    # ---- what is kept

    @property
    def _entries(self) -> list[CandidateRecord]:
        return self._run.record.candidates

    def _present(self, *, raw: bool) -> nn.Module:
        """The average of G, or a copy of G itself."""
        if not raw:
            return self._state.ema.module
        return copy.deepcopy(self._state.G).eval().requires_grad_(False)

    def _score(self, scorer: PeriodicScorer, now_s: float, *, raw: bool = False) -> None:
        with contextlib.suppress(ScoringStoppedError):
            self._add(now_s, scorer.score(self._present(raw=raw)), raw=raw)

    def _add(self, now_s: float, score: Score | None, *, raw: bool = False) -> None:
        candidate = Candidate(self._state.pictures, raw)
        path = self._run.path / candidate.file
        try:
            # A checkpoint is written beside the old one; a candidate is not worth that room.
            require_space(path, 2 * (self._run.path / CHECKPOINT).stat().st_size)
            checkpoint.save_ema(path, self._state, self._recipe, self._shape, raw=raw)
        except KitError as error:
            log.info(f"no candidate of {candidate.pictures:,} pictures is kept ({error.problem})")
            return
        scored, seconds = score.to_json() if score else None, round(now_s, 3)
        entry = CandidateRecord(**candidate._asdict(), seconds=seconds, file=candidate.file, score=scored)
        self._entries.append(entry)
        if score:
            best = rank(self._entries)
            for worse in best[KEPT:]:
                self._delete(worse)
                self._entries[self._entries.index(worse)] = dataclasses.replace(worse, file=None)
            first = best[0] == entry
            which = f"{candidate.pictures:,} pictures{', without the average' * raw}"
            log.info(
                f"{which}: FID {score.fid:.2f} on {score.features.name}, {score.count:,} pictures, "
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
