"""`run.json`, the record of a run: one dataclass that training writes and everything after it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from kit.core.errors import KitError
from kit.core.records import Record
from kit.models.recipe import Recipe

State = Literal["running", "stopped", "finished", "failed"]
"""`stopped` runs can go on; `finished` ones have come to their end."""


def _from() -> Any:
    return field(metadata={"json": "from"})


def _to() -> Any:
    return field(metadata={"json": "to"})


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The prepared set that a run is trained on."""

    name: str
    digest: str  # its identity, see `kit.data.prepared_set.DatasetRecord.content_digest`
    size: int  # side of a picture, pixels
    channels: int
    path: str = ""  # where it lay
    sources: str = ""  # digest of the files it was made from


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """What trained; two devices with the same record give the same bytes."""

    type: str  # "cpu" or "cuda"
    name: str
    precision: str  # "float32", "bfloat16" or "float16"
    threads: int  # that the machine offers
    deterministic: bool = False


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """A plan of the budget, and the pictures that had been seen when it was made. Times in seconds."""

    at: int
    budget_s: float
    started_s: float  # when training could begin
    reserve_s: float  # kept back for generating, packing and checking
    total_images: int  # that training is expected to see: what schedules run over
    spare_s: float = 0.0  # of the reserve, for what no trial measures
    artifacts_s: float = 0.0  # of the reserve, for film and page
    measuring_s: float = 0.0  # what it took to find the reserve out
    rate: float = 0.0  # pictures a second; 0: not known

    @property
    def deadline_s(self) -> float:
        """When training must stop, if the machine stays as fast as it was when this plan was made."""
        return self.budget_s - self.reserve_s


@dataclass(frozen=True)
class WidthTrial:
    """What was measured of a width on this machine."""

    width: int
    needs: int  # pictures that make it worth it
    sees: int | None  # pictures that the budget would let it see; None: it does not fit into the memory


@dataclass(frozen=True, kw_only=True)
class WidthRecord:
    """The width that was chosen for a budget, see `kit.run.width`."""

    chosen: int | None  # None: not yet, as several processes ran out of memory at the last of the trials
    budget_s: float
    trials: list[WidthTrial]


@dataclass(frozen=True, kw_only=True)
class InterimZip:
    """An `images.zip` written in the middle of training."""

    at: int  # pictures seen
    seconds: float  # that it took
    ended_s: float  # seconds since the start of the run


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """Training that diverged, and went on from an earlier checkpoint with a smaller learning rate."""

    reached: int = _from()  # pictures
    resumed_at: int = _to()  # pictures
    lr_scale: float  # × the recipe's learning rates, from there on
    why: str


@dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """A way to need less memory, and from which picture on it holds."""

    reached: int = _from()
    resumed_at: int = _to()
    accumulation_steps: int
    offload_activations: bool


@dataclass(frozen=True, kw_only=True)
class ThreadsChange:
    """How many threads a training step uses, and from which picture on."""

    at: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class CandidateRecord:
    """A state of G's average, or of G itself, that was kept on the way."""

    pictures: int  # seen
    raw: bool = False  # G itself, without the average
    seconds: float  # since the start of the run
    file: str | None = None  # "candidates/NAME.pt" in the run's folder; None once it was deleted
    score: dict[str, Any] | None = None  # a `kit.scoring.score_record.Score`; None: not scored

    def __post_init__(self) -> None:
        if self.file is not None and not re.fullmatch(r"candidates/[0-9]+(-raw)?\.pt", self.file):
            raise KitError(f"file is {self.file!r}, not a candidate's")


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """The work of one process, or of several started together, on the run."""

    start: int = _from()  # pictures
    stop: int = _to()  # pictures
    seconds: float
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class ResizeRecord:
    """How pictures are brought from the generator's size to the competition's."""

    source: int = _from()  # side, pixels
    target: int = _to()  # side, pixels
    filter: str


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """`images.zip`."""

    file: str
    pictures: int  # that the generator had seen
    raw: bool = False  # it is G itself, not its average
    resize: ResizeRecord | None = None  # None: not resized
    threads: int = 0  # that generated the pictures; 0: all that the machine offers
    count: int
    bytes: int
    sha256: str
    pixels_sha256: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class SecondsRecord:
    """Where the time of the end of a run went."""

    finishing: float  # generating, packing, checking
    generating: float  # of that, waiting for pictures
    in_all: float
    artifacts: float | None = None  # making film and page


@dataclass(frozen=True, kw_only=True)
class KernelRecord:
    """The kernel in which a run was made."""

    slug: str
    receipt: str  # of its push
    recipe: str  # content of its `kernel.toml`
    budget_s: float  # of the whole kernel


@dataclass(frozen=True, kw_only=True)
class TickRecord:
    """A line of `progress.jsonl`: means over the steps since the last tick. None: not a finite number."""

    pictures: int  # seen
    seconds: float  # since the start of the run
    pictures_per_s: float | None = None
    loss_d: float | None = None
    loss_g: float | None = None
    d_real: float | None = None  # D(x), a probability
    d_fake: float | None = None  # D(G(z)), a probability
    grad_d: float | None = None  # norm of D's gradient, before clipping
    grad_g: float | None = None
    lr_d: float | None = None  # learning rate
    lr_g: float | None = None
    diversity: float | None = None  # standard deviation between generated pictures, grey levels
    budget_used: float | None = None  # 0 to 1
    budget_reserve: float | None = None  # 0 to 1
    alarms: list[str] = field(default_factory=list)  # what looks wrong


@dataclass(kw_only=True)
class RunRecord(Record):
    """The content of `run.json`."""

    FORMAT: ClassVar[str] = "kit-run"
    VERSION: ClassVar[int] = 2

    name: str
    state: State
    why: str = ""  # why training stopped
    signal: str | None = None  # that ended it
    recipe: Recipe  # after overrides
    seed: int
    images: int | None  # pictures to train on; None: as many as the budget allows
    count: int  # pictures in images.zip
    competition: str  # slug
    data: DataRecord
    kit: str  # version
    versions: dict[str, str]
    budget_s: float | None
    device: DeviceRecord
    commit: str | None
    dirty: bool
    tree: str  # digest of the kit's files
    pictures: int = 0  # seen
    parts: list[PartRecord] = field(default_factory=list)
    width: WidthRecord | None = None  # None: the recipe's own, or that of --set
    plans: list[PlanRecord] = field(default_factory=list)
    interim_zips: list[InterimZip] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    memory: list[MemoryChange] = field(default_factory=list)
    threads: list[ThreadsChange] = field(default_factory=list)  # none: those of the device
    candidates: list[CandidateRecord] = field(default_factory=list)
    result: ResultRecord | None = None
    seconds: SecondsRecord | None = None
    kernel: KernelRecord | None = None  # None: made by `kit train` on some machine


class Callback(Protocol):
    """Is told of a run while it trains. What it raises never ends the run."""

    def on_plan(self, record: RunRecord) -> None:
        """Training is about to begin; the record is kept up to date while it goes on."""

    def on_tick(self, tick: TickRecord) -> None:
        """A tick has passed."""

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Generating and packing go on."""
