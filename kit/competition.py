"""What a competition asks, as one record each.

No size, count, format or constant of a metric stands anywhere else in the code: a third competition is a third record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kit.core.errors import unknown

Accelerator = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True, kw_only=True)
class Competition:
    """A generative competition: what it gives, what it takes, and how it counts."""

    slug: str
    title: str

    # What it gives. Names are matched without case, as a folder or as NAME.zip, at any depth.
    pictures: tuple[str, ...]  # what is to be generated: the pictures to learn from, or the targets of a translation
    annotations: tuple[str, ...] = ()  # empty: pictures come without boxes
    inputs: tuple[str, ...] = ()  # the pictures to be translated; empty: pictures are generated from noise
    crop: str  # default crop policy

    # What it takes.
    size: int  # pixels, the picture is square
    mode: Literal["RGB"]  # Pillow's name of the pixel format
    format: Literal["PNG", "JPEG"]  # Pillow's name of the file format
    suffix: str
    count: int  # pictures in a submission, unless the user asks for another number; of a translation: of its inputs
    count_min: int
    count_max: int

    quality: int = 95  # of a JPEG, 1 to 100
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"  # of a JPEG's colours

    # How it counts: the official MiFID's network and its threshold (a distance, 0 to 1).
    scorer: str
    epsilon: float
    epsilon_published: bool = True  # False: epsilon is an assumption, and so is every MiFID that is computed with it

    # Where it runs.
    kernels_only: bool
    hours: Mapping[Accelerator, float]  # the longest run of a kernel on each accelerator

    @property
    def kernel_hours(self) -> float:
        """The longest run of a kernel with a GPU."""
        return self.hours["gpu"]

    @property
    def rules_url(self) -> str:
        """The page where an account accepts the rules."""
        return f"https://www.kaggle.com/competitions/{self.slug}/rules"


COMPETITIONS: dict[str, Competition] = {
    record.slug: record
    for record in (
        Competition(
            slug="generative-dog-images",
            title="Generative Dog Images",
            pictures=("all-dogs",),
            annotations=("Annotation",),
            crop="mixed",
            size=64,
            mode="RGB",
            format="PNG",
            suffix=".png",
            count=10_000,
            count_min=10_000,
            count_max=10_000,
            scorer="kaggle",
            epsilon=0.1,
            kernels_only=True,
            hours={"gpu": 9.0, "cpu": 9.0},
        ),
        Competition(
            slug="gan-getting-started",
            title="I'm Something of a Painter Myself",
            pictures=("monet_jpg",),
            inputs=("photo_jpg",),
            crop="whole",
            size=256,
            mode="RGB",
            format="JPEG",
            suffix=".jpg",
            count=7_038,  # one for each photograph
            count_min=7_000,
            count_max=10_000,
            scorer="kaggle",
            epsilon=0.1,
            epsilon_published=False,
            kernels_only=True,
            hours={"gpu": 5.0, "cpu": 5.0, "tpu": 3.0},
        ),
    )
}

DEFAULT = "generative-dog-images"


def get(slug: str) -> Competition:
    """The record of a competition.

    Raises:
        KitError: no such record, with the closest slug.
    """
    if slug not in COMPETITIONS:
        raise unknown("competition", slug, COMPETITIONS)
    return COMPETITIONS[slug]
