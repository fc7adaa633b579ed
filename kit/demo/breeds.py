"""The breeds of the drawn dogs. None of them exists, and no name or number is one of the real set's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from PIL import ImageColor

from kit.demo.paint import Colour


@dataclass(frozen=True, kw_only=True)
class Breed:
    """What one kind of dog looks like. Lengths are in heights of its withers, unless they say otherwise."""

    wnid: str
    name: str
    base: Colour  # of most of the coat
    second: Colour  # of its markings
    coat: str  # plain, cream, spots, saddle, mask, collie, beard or curls
    ears: str  # pricked, folded, drop, long or round
    tail: str  # curled, sabre, plume or stub
    fur: float  # how far the coat's outline is ruffled
    head: float  # half the width of the head
    muzzle: float  # half the width of the muzzle, in half heads
    snout: float  # how far it hangs down, in half heads
    legs: float  # length of the legs
    body: float  # length of the trunk
    girth: float  # depth of the chest
    eyes: Colour
    share: float  # how often it is met, against the others

    @property
    def folder(self) -> str:
        """The folder of its annotations."""
        return f"{self.wnid}-{self.name}"


# A row for each, its columns the fields of Breed.
_TABLE = """
n90000017 Marmalade_spitz        #de8a3e #fce2ba cream  pricked curled 0.055 0.25 0.4  0.44 0.36 0.86 0.48 #4a2c18 1.2
n90000028 Inkblot_runner         #f6f2e9 #2e2a2c spots  drop    sabre  0.0   0.21 0.46 0.62 0.58 1.02 0.37 #4a2c18 1.1
n90000039 Cocoa_lowrider         #7a4428 #be7a48 plain  long    sabre  0.0   0.27 0.44 0.64 0.2  1.42 0.4  #4a2c18 1.0
n90000046 Harbour-watch_shepherd #c4844a #342e2e saddle pricked plume  0.018 0.22 0.42 0.62 0.5  1.08 0.43 #4a2c18 1.0
n90000053 Dumpling_snorer        #e2ba84 #3a2e2c mask   folded  curled 0.0   0.31 0.62 0.36 0.32 0.86 0.52 #281a14 0.9
n90000064 Snowdrift_bear         #f4f0e6 #e2d0b8 plain  round   plume  0.07  0.29 0.5  0.46 0.38 0.98 0.56 #241a18 1.0
n90000071 Crossroads_drover      #363236 #f6f2e9 collie folded  plume  0.04  0.24 0.42 0.58 0.46 1.0  0.44 #54708a 0.9
n90000082 Pewter_whiskers        #74767c #dadad8 beard  folded  stub   0.014 0.25 0.6  0.56 0.48 0.88 0.43 #4a2c18 0.7
n90000095 Apricot_woolly         #d49668 #e4b288 curls  long    stub   0.05  0.26 0.42 0.56 0.48 0.9  0.46 #4a2c18 0.7
"""


def _value(text: str) -> Any:
    if text.startswith("#"):
        return ImageColor.getrgb(text)
    return float(text) if text[0].isdecimal() else text


_FIELDS = [field.name for field in fields(Breed)]
BREEDS = tuple(
    Breed(**dict(zip(_FIELDS, map(_value, row.split()), strict=True))) for row in _TABLE.strip().splitlines()
)
