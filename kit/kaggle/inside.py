"""The way of a kernel, from the competition's files to its results: what runs on Kaggle's machine.

Nothing here needs a package that Kaggle's image lacks, an account, or the internet. Pictures and training live in a
temporary folder; the working folder, which becomes the kernel's output, holds the results alone. They are put there as
soon as there are any, so that a session which is cut off still leaves its last valid `images.zip`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit import provenance
from kit.clock import Stopwatch, show_duration
from kit.errors import KitError
from kit.files import atomic, read_json, write_json
from kit.kaggle.log import Log
from kit.kaggle.spec import parse_spec
from kit.runs import CHECKPOINT, IMAGES, RECORD, SCORE, Run

REPORT, GRID, FILM = "report.html", "samples.png", "film.gif"

AFTERWARDS_SHARE, AFTERWARDS_LEAST_S, AFTERWARDS_MOST_S = 0.02, 20.0, 600.0
"""What is kept of the budget for the score and the report, after training has left its checked zip."""

SCORE_LEAST = 256
"""A score of fewer pictures says nothing."""

REPORT_S = 15.0
"""Seconds that the report and its film take, and the end."""


class Session:
    """A kernel's work, step by step: `prepare`, `train`, `score`, `report`, `finish`; `main` takes them all.

    Args:
        recipe: text of the `kernel.toml`.
        slug: of the kernel.
        tree: digest of the kit's files, which is compared with those that run.
        commit: git's commit that they come from, if any.
        dirty: whether they differ from it.
        receipt: of the push.
        input: folder of Kaggle's mounts.
        working: folder that becomes the kernel's output.

    Raises:
        KitError: the kit that runs is not the one that was carried.
    """

    def __init__(
        self,
        *,
        recipe: str,
        slug: str,
        tree: str,
        commit: str | None,
        dirty: bool,
        receipt: str,
        input: str,
        working: str,
    ) -> None:
        # As in `kit.cli`: threads that wait by spinning take the time of those they wait for. Before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.clock = Stopwatch()
        self.spec = parse_spec(recipe, slug=slug)
        self.input, self.working = Path(input), Path(working)
        self.log = Log(self.clock)
        running = provenance.source_tree().digest
        if running != tree:
            raise KitError(f"the kit that runs ({running[:12]}) is not the one this kernel carries ({tree[:12]})", "")
        self._origin = {
            "commit": commit,
            "dirty": dirty,
            "kernel": {"slug": slug, "receipt": receipt, "recipe": recipe, "budget_s": self.spec.budget_s},
        }
        self._scratch = Path(tempfile.mkdtemp(prefix="kit-kernel-"))
        self._data = self._scratch / "data" / self.spec.competition
        self._run = Run(self._scratch / "runs" / slug)
        self._published: tuple[int, int] | None = None  # which images.zip

    def main(self) -> int:
        """All of it.

        Returns:
            The exit code: 0 as soon as a valid `images.zip` stands in the working folder, whatever failed after it.
        """
        try:
            for step in (self.prepare, self.train, self.score, self.report, self.finish):
                step()
        except KitError as error:
            self.log.say(f"error: {error}")
            return 1
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            self.log.say(f"error: {type(error).__name__}: {error}")
            return 1
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return 0

    def prepare(self) -> None:
        """Finds the competition's pictures and prepares them.

        Raises:
            KitError: they are not mounted, or cannot be used.
        """
        from kit.data.crops import CropSettings
        from kit.data.prepare import describe, prepare
        from kit.data.sources import kaggle_mount

        rules = self.spec.rules
        mount = kaggle_mount(rules, self.input)
        if mount is None:
            raise KitError(
                f"{self.input}: the pictures of {rules.slug} are not there",
                f"add the competition to the kernel's inputs, and accept its rules at {rules.rules_url}",
            )
        self.log.say(f"pictures from {mount}")
        prepared = prepare(
            mount,
            competition=rules,
            out=self._data,
            crop=CropSettings(policy=self.spec.crop),
            size=self.spec.size,
            progress=self.log.progress("prepared", "pictures"),
        )
        for line in describe(prepared):
            self.log.say(line)

    def train(self) -> None:
        """Trains, and leaves a checked `images.zip` in the working folder.

        Raises:
            KitError: there is no valid one.
            Exception: whatever else stopped training before there was a valid one.
        """
        from kit import pipeline
        from kit.models import zoo

        spec = self.spec
        job = pipeline.Job(
            recipe=zoo.get(spec.model, spec.source).override(list(spec.settings)),
            data=self._data,
            out=self._run.path,
            seed=spec.seed,
            budget_s=spec.budget_s - self._afterwards_s,
            count=spec.count,
        )
        self.log.on_tick = self._publish
        try:
            self._run = pipeline.train(job, clock=self.clock, listener=self.log)
        except Exception as error:
            if not self._valid(self._run.path / IMAGES):
                raise
            self._run.record = read_json(self._run.path / RECORD)
            self._tell(error, "training")
        self._publish()
        if not self._valid(self.working / IMAGES):
            raise KitError(f"{self.working / IMAGES}: not what the competition takes", "see the log above")

    def score(self) -> None:
        """Scores the pictures, in the time that is left; what fails is said and does no harm."""
        self._afterwards("the score", self._score, needs_s=REPORT_S)

    def report(self) -> None:
        """Writes the page, the grid, the film and the generator; what fails is said and does no harm."""
        self._afterwards("the generator", self._keep_generator)
        self._afterwards("the report", self._report, needs_s=REPORT_S / 3)

    def pictures(self) -> list[str]:
        """The pictures to look at in the working folder."""
        return [str(self.working / name) for name in (GRID, FILM) if (self.working / name).is_file()]

    def finish(self) -> None:
        """Says what there is, and clears up."""
        self._publish()
        result = read_json(self.working / RECORD)["result"]
        self.log.say(
            f"{self.working / IMAGES}: {result['count']:,} pictures, valid for {self.spec.competition}, "
            f"SHA-256 {result['sha256'][:16]}, after {show_duration(self.clock.seconds())}"
        )
        shutil.rmtree(self._scratch, ignore_errors=True)

    # ---- afterwards

    @property
    def _afterwards_s(self) -> float:
        return min(max(AFTERWARDS_SHARE * self.spec.budget_s, AFTERWARDS_LEAST_S), AFTERWARDS_MOST_S)

    @property
    def _left_s(self) -> float:
        return self.spec.budget_s - self.clock.seconds()

    def _afterwards(self, what: str, work: Callable[[], None], *, needs_s: float = 0.0) -> None:
        """Something that a submission can do without."""
        if self._run.record["signal"]:
            self.log.say(f"told to end: without {what}")
            return
        if self._left_s < needs_s:
            self.log.say(f"no time is left for {what}")
            return
        try:
            work()
        except Exception as error:
            self._tell(error, what)

    def _tell(self, error: Exception, what: str) -> None:
        if not isinstance(error, KitError):
            traceback.print_exc(file=sys.stdout)
        self.log.say(f"{what} failed ({error}); images.zip is valid and stays")

    def _score(self) -> None:
        from kit.data.dataset import load
        from kit.scoring import features
        from kit.scoring import score as scoring
        from kit.scoring.estimate import Estimate

        prepared = load(self._data, verify=False)
        network = features.build(FEATURES)
        count = self._run.record["result"]["count"]

        def in_time(estimate: Estimate) -> None:
            left = self._left_s - REPORT_S
            if estimate.seconds > left:
                raise _TooLongError(left / estimate.seconds)

        for _ in range(2):
            try:
                result = scoring.score(
                    self._run.path / IMAGES,
                    prepared,
                    features=network,
                    count=count,
                    cache=scoring.default_cache(prepared),
                    announce=in_time,
                    progress=self.log.progress("scored", "pictures"),
                )
            except _TooLongError as error:
                count = int(count * error.share * 0.8)
                if count < SCORE_LEAST:
                    break
                continue
            scoring.save(result, self._run.path / SCORE)
            self._put(SCORE)
            for line in result.lines():
                self.log.say(line)
            return
        self.log.say("no time is left for a score")

    def _keep_generator(self) -> None:
        from kit.training.checkpoint import save_generator

        save_generator(self._run.path / CHECKPOINT, self.working / CHECKPOINT)

    def _report(self) -> None:
        from kit.report.page import write_report
        from kit.report.pictures import film, grids

        grid = grids(self._run.path)[-1].path
        self._put(grid.relative_to(self._run.path).as_posix(), GRID)
        film(self._run.path)
        self._put(FILM)
        write_report(self._run.path)
        self._put(REPORT)

    # ---- the working folder

    def _publish(self) -> None:
        """Puts the newest `images.zip` and its record into the working folder."""
        images, record = self._run.path / IMAGES, self._run.path / RECORD
        if not images.is_file():
            return
        state = images.stat()
        if self._published != (state.st_ino, state.st_mtime_ns):
            self._put(IMAGES)
            self._published = (state.st_ino, state.st_mtime_ns)
        run = self._described(read_json(record))
        write_json(record, run)
        write_json(self.working / RECORD, run)

    def _described(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run's record with where its code comes from, and with the set's name in place of a folder that goes."""
        path = {"path": f"data/{self.spec.competition}"}
        return run | self._origin | {"data": run["data"] | path}

    def _put(self, name: str, target: str | None = None) -> None:
        """Copies a file of the run into the working folder, whole or not at all."""
        with (self._run.path / name).open("rb") as source, atomic(self.working / (target or name)) as file:
            shutil.copyfileobj(source, file)

    def _valid(self, images: Path) -> bool:
        from kit.generation.check import check

        return images.is_file() and check(images, competition=self.spec.rules, count=self.spec.count).ok


FEATURES = "random"
"""The feature set that scores inside a kernel: no foreign weights are allowed there."""


class _TooLongError(Exception):
    """A score would take longer than there is time; `share` of it would do."""

    def __init__(self, share: float) -> None:
        super().__init__(f"only {share:.0%} of the time is there")
        self.share = share
