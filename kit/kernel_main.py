"""The way of a kernel, from the competition's files to its results: what runs on Kaggle's machine.

Nothing here needs a package that Kaggle's image lacks, an account, or the internet. Pictures and training live in a
temporary folder; the working folder, which becomes the kernel's output, holds the results alone. They are put there as
soon as there are any, so that a session which is cut off still leaves its last valid `images.zip`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.core import provenance
from kit.core.clock import Stopwatch, show_duration
from kit.core.errors import KitError
from kit.core.files import atomic, write_json
from kit.core.records import to_json
from kit.kaggle.kernel_log import KernelLog, progress_lines
from kit.kaggle.kernel_spec import GPUS, parse_spec
from kit.training.run_folder import CHECKPOINT, IMAGES, RECORD, SCORE, Candidate, read_run
from kit.training.run_record import KernelRecord, RunRecord

if TYPE_CHECKING:
    from kit.run import RunConfig

log = logging.getLogger(__name__)

REPORT, GRID, FILM = "report.html", "samples.png", "film.gif"

FEATURES = "own"
"""The feature set that scores inside a kernel: no foreign weights are allowed there."""

# What is kept of the budget for what follows training and its checked zip; of a short budget a quarter at most.
AFTERWARDS_SHARE, AFTERWARDS_LEAST_S, AFTERWARDS_MOST_S = 0.02, 20.0, 600.0
REPORT_SHARE = 0.5  # of that, for the report, its film and the end
CHOICE_SHARE = 0.05  # of training's time, for the scores by which it chooses among the generators that it keeps
SCORE_LEAST = 256  # where time is short fewer pictures are scored, but a score of fewer than these says nothing
SCORE_CAUTION = 0.8  # an estimate of a score's time may be so much too low


@dataclass(kw_only=True)
class Session:
    """A kernel's work, step by step: `prepare`, `train`, `score`, `report`, `finish`; `main` takes them all.

    Raises `KitError` where the kit that runs is not the one that was carried.
    """

    recipe: str  # text of the kernel.toml
    slug: str  # of the kernel
    tree: str  # digest of the kit's files, which is compared with those that run
    commit: str | None  # git's, that they come from
    dirty: bool  # whether they differ from it
    receipt: str  # of the push
    input: Path  # folder of Kaggle's mounts
    working: Path  # folder that becomes the kernel's output
    scratch: Path | None = None  # folder for everything else; None: a temporary one
    started_at: float | None = None  # when the kernel started, seconds since 1970; None: when this process did

    def __post_init__(self) -> None:
        # As in `kit.cli`: threads that wait by spinning take the time of those they wait for. Before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.clock = Stopwatch(self.started_at)
        self.log = KernelLog(self.clock, after_tick=self._publish)
        self.spec = parse_spec(self.recipe, slug=self.slug)
        running = provenance.source_tree().digest
        if running != self.tree:
            raise KitError(f"the kit that runs ({running[:12]}) is not the one this kernel carries ({self.tree[:12]})")
        self.scratch = self._scratch = Path(self.scratch or tempfile.mkdtemp(prefix="kit-kernel-"))
        self.input, self.working = Path(self.input), Path(self.working)  # the script gives them as text
        budget_s = self.spec.budget_s
        self._afterwards_s = min(max(AFTERWARDS_SHARE * budget_s, AFTERWARDS_LEAST_S), AFTERWARDS_MOST_S, budget_s / 4)
        self._report_s = REPORT_SHARE * self._afterwards_s
        self._data = self._scratch / "data" / self.spec.competition
        self._run = self._scratch / "runs" / self.slug
        self._record: RunRecord | None = None  # of the run, once it has ended
        self._published: tuple[int, int] | None = None  # which images.zip

    def main(self) -> int:
        """All of it; the exit code is 0 as soon as a valid `images.zip` is there, whatever failed after it."""
        try:
            for step in (self.prepare, self.train, self.score, self.report, self.finish):
                step()
        except KitError as error:
            log.error("error: %s", error)
            return 1
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            log.error("error: %s: %s", type(error).__name__, error)
            return 1
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return 0

    def prepare(self) -> None:
        """Finds the competition's pictures and prepares them."""
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
        log.info("pictures from %s", mount)
        prepared = prepare(
            mount,
            competition=rules,
            out=self._data,
            crop=CropSettings(policy=self.spec.crop),
            size=self.spec.size,
            progress=progress_lines("prepared pictures"),
        )
        for line in describe(prepared):
            log.info("%s", line)

    def train(self) -> None:
        """Trains, and leaves a checked `images.zip` in the working folder; raises where there is no valid one."""
        order = self._scratch / "session.json"
        write_json(order, to_json(self))
        try:
            try:
                self._train([str(order)], processes=self._processes())
            except SystemExit:  # several processes that could not begin, and have said why
                if self._valid(self._run / IMAGES):
                    raise
                log.warning("several processes could not train; going on with one process on one GPU")
                shutil.rmtree(self._run, ignore_errors=True)
                self._train([], processes=1)
        except (Exception, SystemExit) as error:
            if not self._valid(self._run / IMAGES):
                raise
            self._tell(error, "training")
        self._record = self._described(read_run(self._run))
        self._record.save(self._run / RECORD)
        self._publish()
        if not self._valid(self.working / IMAGES):
            raise KitError(f"{self.working / IMAGES}: not what the competition takes", "see the log above")

    def score(self) -> None:
        """Scores the pictures, in the time that is left; what fails is said and does no harm."""
        self._afterwards("the score", self._score, needs_s=self._report_s)

    def report(self) -> None:
        """Writes the page, the grid, the film and the generator; what fails is said and does no harm."""
        self._afterwards("the generator", self._keep_generator)
        self._afterwards("the report", self._report)

    def pictures(self) -> list[str]:
        """The pictures to look at in the working folder."""
        return [str(path) for name in (GRID, FILM) if (path := self.working / name).is_file()]

    def finish(self) -> None:
        """Says what there is, and clears up."""
        self._publish()
        result = read_run(self.working).result
        assert result is not None
        log.info(
            f"{self.working / IMAGES}: {result.count:,} pictures, valid for {self.spec.competition}, "
            f"SHA-256 {result.sha256[:16]}, after {show_duration(self.clock.seconds())}"
        )
        shutil.rmtree(self._scratch, ignore_errors=True)

    # ---- training

    def _train(self, arguments: list[str], *, processes: int, resume: bool = False) -> None:
        from kit.run import processes as running

        running.train(
            self._config(resume=resume),
            gpus=str(processes),
            clock=self.clock,
            arguments=arguments,
            make_callback=lambda clock: contextlib.nullcontext(self.log),
            module="kit.kernel_main",
        )

    def _config(self, *, resume: bool) -> RunConfig:
        from kit.models import custom, registry
        from kit.run import RunConfig
        from kit.scoring.candidates import ScoringConfig

        spec = self.spec
        custom.require_trust(spec.model, spec.source, trust=True, where=spec.slug)  # who pushed the kernel trusted it
        row, settings = registry.get(spec.model, spec.source), list(spec.settings)
        return RunConfig(
            recipe=row.override(settings),
            ladder=row.widths(settings),
            data=self._data,
            out=self._run,
            seed=spec.seed,
            budget_s=spec.budget_s - self._afterwards_s,
            count=spec.count,
            resume=resume,
            scores=ScoringConfig(share=CHOICE_SHARE, features=FEATURES, optional=True),
        )

    def _processes(self) -> int:
        """One for each GPU that there is of those asked for; without any, as many share the CPU."""
        import torch

        wanted, there = GPUS[self.spec.gpus].processes, torch.cuda.device_count()
        return min(wanted, there) if there else wanted

    # ---- afterwards

    @property
    def _left_s(self) -> float:
        return self.spec.budget_s - self.clock.seconds()

    def _afterwards(self, what: str, work: Callable[[], None], *, needs_s: float = 0.0) -> None:
        """Something that a submission can do without."""
        if self._record and self._record.signal:
            log.info("told to end: without %s", what)
        elif self._left_s < needs_s:
            log.info("no time is left for %s", what)
        else:
            try:
                work()
            except Exception as error:
                self._tell(error, what)

    def _tell(self, error: BaseException, what: str) -> None:
        if not isinstance(error, KitError):
            traceback.print_exc(file=sys.stdout)
        log.warning("%s failed (%s); images.zip is valid and stays", what, error)

    def _score(self) -> None:
        import numpy as np

        from kit.data.prepared_set import load
        from kit.scoring import features
        from kit.scoring.candidates import OWN_SHARE, TRIAL
        from kit.scoring.compute_score import score_pictures
        from kit.scoring.reference import Cache, References, default_cache

        prepared = load(self._data)
        seconds = OWN_SHARE * self.spec.budget_s  # only where training has not trained the network already
        network = features.build(FEATURES, prepared=prepared, seconds=seconds)
        cache = default_cache(prepared)
        pending = References(prepared, network, Cache(cache)).pending_count("whole", inputs=True)
        per_picture = network.seconds_per_picture(np.array(prepared.images[:TRIAL]))
        affordable = int(SCORE_CAUTION * (self._left_s - self._report_s) / per_picture) - pending
        record = read_run(self._run)
        count = record.result.count if record.result else record.count
        if affordable < min(count, SCORE_LEAST):
            log.info("no time is left for a score")
            return
        result = score_pictures(
            self._run / IMAGES,
            prepared,
            features=network,
            count=min(count, affordable),
            cache=cache,
            progress=progress_lines("scored pictures"),
        )
        result.save(self._run / SCORE)
        self._put(SCORE)
        for line in result.lines():
            log.info("%s", line)

    def _keep_generator(self) -> None:
        """The generator that the pictures come from: the one that was chosen, or the last state's."""
        from kit.training.checkpoint import extract_ema

        record = read_run(self._run)
        assert record.result is not None
        chosen = Candidate(record.result.pictures, record.result.raw).file
        if (self._run / chosen).is_file():
            self._put(chosen, CHECKPOINT)
        else:
            extract_ema(self._run / CHECKPOINT, self.working / CHECKPOINT)

    def _report(self) -> None:
        from kit.report.films import make_artifacts
        from kit.report.run_data import grids

        grid = grids(self._run)[-1].path
        self._put(grid.relative_to(self._run).as_posix(), GRID)
        # Training has made both as it ended, if it had time; the page now has the score. It names folders, and these
        # as they will be called at home.
        with contextlib.chdir(self._scratch):
            run = self._run.relative_to(self._scratch)
            make_artifacts(run, left_s=self._left_s, told_to_stop=lambda: False)
        for name in (FILM, REPORT):
            if (self._run / name).is_file():
                self._put(name)

    # ---- the working folder

    def _publish(self) -> None:
        """Puts the newest `images.zip` and its record into the working folder."""
        images = self._run / IMAGES
        if not images.is_file():
            return
        state = images.stat()
        if self._published != (state.st_ino, state.st_mtime_ns):
            self._put(IMAGES)
            self._published = (state.st_ino, state.st_mtime_ns)
        self._described(read_run(self._run)).save(self.working / RECORD)

    def _described(self, run: RunRecord) -> RunRecord:
        """A run's record with where its code comes from, and with the set's name in place of a folder that goes."""
        return dataclasses.replace(
            run,
            commit=self.commit,
            dirty=self.dirty,
            data=dataclasses.replace(run.data, path=self._data.relative_to(self._scratch).as_posix()),
            kernel=KernelRecord(slug=self.slug, receipt=self.receipt, recipe=self.recipe, budget_s=self.spec.budget_s),
        )

    def _put(self, name: str, target: str | None = None) -> None:
        """Copies a file of the run into the working folder, whole or not at all."""
        with (self._run / name).open("rb") as source, atomic(self.working / (target or name)) as file:
            shutil.copyfileobj(source, file)

    def _valid(self, images: Path) -> bool:
        from kit.generation.validate import check

        return images.is_file() and check(images, competition=self.spec.rules, count=self.spec.count).ok


def main() -> None:
    """One of several processes: `python -m kit.kernel_main session.json`, with what `kit.run.processes` adds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("session", type=Path, help="the fields of `Session`, as JSON")
    parser.add_argument("--out", type=Path, help="the run's folder, which follows from them too")
    parser.add_argument("--started-at", type=float, help="seconds since 1970")
    parser.add_argument("--resume", action="store_true", help="go on with the run, with less memory")
    asked = parser.parse_args()
    fields = json.loads(asked.session.read_text(encoding="utf-8"))
    session = Session(**{**fields, "started_at": asked.started_at})
    try:
        session._train([], processes=session._processes(), resume=asked.resume)
    except KitError as error:
        log.error("error: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
