"""The breeds of the drawn dogs. None of them exists, and no name or number is one of the real set's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kit.demo.paint import Colour

Ears = Literal["pricked", "folded", "drop", "long", "round"]
Coat = Literal["plain", "cream", "spots", "saddle", "mask", "collie", "beard", "curls"]
Tail = Literal["curled", "sabre", "plume", "stub"]

WHITE: Colour = (246, 242, 233)
BLACK: Colour = (46, 42, 44)
TAN: Colour = (196, 132, 74)


@dataclass(frozen=True, kw_only=True)
class Breed:
    """What one kind of dog looks like. Lengths are in heights of its withers, unless they say otherwise."""

    wnid: str
    name: str
    base: Colour  # of most of the coat
    second: Colour  # of its markings
    coat: Coat
    ears: Ears
    tail: Tail
    fur: float = 0.0  # how far the coat's outline is ruffled
    head: float = 0.25  # half the width of the head
    muzzle: float = 0.5  # half the width of the muzzle, in half heads
    snout: float = 0.5  # how far it hangs down, in half heads
    legs: float = 0.46  # length of the legs
    body: float = 1.0  # length of the trunk
    girth: float = 0.44  # depth of the chest
    eyes: Colour = (74, 44, 24)
    share: float = 1.0  # how often it is met, against the others

    @property
    def folder(self) -> str:
        """The folder of its annotations."""
        return f"{self.wnid}-{self.name}"


BREEDS = (
    Breed(
        wnid="n90000017",
        name="Marmalade_spitz",
        base=(222, 138, 62),
        second=(252, 226, 186),
        coat="cream",
        ears="pricked",
        tail="curled",
        fur=0.055,
        muzzle=0.4,
        snout=0.44,
        legs=0.36,
        body=0.86,
        girth=0.48,
        share=1.2,
    ),
    Breed(
        wnid="n90000028",
        name="Inkblot_runner",
        base=WHITE,
        second=BLACK,
        coat="spots",
        ears="drop",
        tail="sabre",
        head=0.21,
        muzzle=0.46,
        snout=0.62,
        legs=0.58,
        body=1.02,
        girth=0.37,
        share=1.1,
    ),
    Breed(
        wnid="n90000039",
        name="Cocoa_lowrider",
        base=(122, 68, 40),
        second=(190, 122, 72),
        coat="plain",
        ears="long",
        tail="sabre",
        head=0.27,
        muzzle=0.44,
        snout=0.64,
        legs=0.2,
        body=1.42,
        girth=0.4,
    ),
    Breed(
        wnid="n90000046",
        name="Harbour-watch_shepherd",
        base=TAN,
        second=(52, 46, 46),
        coat="saddle",
        ears="pricked",
        tail="plume",
        fur=0.018,
        head=0.22,
        muzzle=0.42,
        snout=0.62,
        legs=0.5,
        body=1.08,
        girth=0.43,
    ),
    Breed(
        wnid="n90000053",
        name="Dumpling_snorer",
        base=(226, 186, 132),
        second=(58, 46, 44),
        coat="mask",
        ears="folded",
        tail="curled",
        head=0.31,
        muzzle=0.62,
        snout=0.36,
        legs=0.32,
        body=0.86,
        girth=0.52,
        eyes=(40, 26, 20),
        share=0.9,
    ),
    Breed(
        wnid="n90000064",
        name="Snowdrift_bear",
        base=(244, 240, 230),
        second=(226, 208, 184),
        coat="plain",
        ears="round",
        tail="plume",
        fur=0.07,
        head=0.29,
        muzzle=0.5,
        snout=0.46,
        legs=0.38,
        body=0.98,
        girth=0.56,
        eyes=(36, 26, 24),
    ),
    Breed(
        wnid="n90000071",
        name="Crossroads_drover",
        base=(54, 50, 54),
        second=WHITE,
        coat="collie",
        ears="folded",
        tail="plume",
        fur=0.04,
        head=0.24,
        muzzle=0.42,
        snout=0.58,
        legs=0.46,
        body=1.0,
        girth=0.44,
        eyes=(84, 112, 138),
        share=0.9,
    ),
    Breed(
        wnid="n90000082",
        name="Pewter_whiskers",
        base=(116, 118, 124),
        second=(218, 218, 216),
        coat="beard",
        ears="folded",
        tail="stub",
        fur=0.014,
        head=0.25,
        muzzle=0.6,
        snout=0.56,
        legs=0.48,
        body=0.88,
        girth=0.43,
        share=0.7,
    ),
    Breed(
        wnid="n90000095",
        name="Apricot_woolly",
        base=(212, 150, 104),
        second=(228, 178, 136),
        coat="curls",
        ears="long",
        tail="stub",
        fur=0.05,
        head=0.26,
        muzzle=0.42,
        snout=0.56,
        legs=0.48,
        body=0.9,
        girth=0.46,
        share=0.7,
    ),
)
