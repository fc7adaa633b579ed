"""One picture, from the bytes of its file to upright pixels of 8 bits."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from kit.data.annotations import Corners
from kit.data.archives import BadFile

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened, by content and not by name; Pillow's other decoders are never given a stranger's file."""

SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif pjpeg pjp png apng gif bmp dib webp tif tiff ppm pgm pbm pnm".split()  # noqa: SIM905
)
"""Names that promise a picture. A file of any other name is one if it begins like one."""

HEAD_BYTES = 64
"""So much of a file shows whether it begins like a picture."""

_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|II\*\0|MM\0\*"
    rb"|P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s",
    re.DOTALL,
)

MAX_PIXELS = 2**26
"""A picture of over 67 megapixels is refused."""

MAX_DECODED = 2**25
"""Pixels that a picture may have in memory. A larger JPEG is decoded at a fraction of its size, others are refused."""

MAX_WORKER_BYTES = 512 * 2**20
"""What a process that reads pictures holds at most: 12 bytes a pixel, for the picture, its copy in 8 bits, and an
array of it, and what the program itself needs."""

KEEP = 2
"""A JPEG may be decoded at half, a quarter or an eighth of its size while so many times the target is left."""

STRIP = 256
"""Rows of a transparent picture that are laid on white at a time."""

_ORIENTATION = 0x0112  # the EXIF tag
_PHOTOMETRIC = 0x0106  # the TIFF tag

# EXIF's orientation → (exchange x and y, then mirror x, then mirror y), which turns the picture upright.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}

_FLIPS = (Image.Transpose.TRANSPOSE, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)


@dataclass
class Picture:
    """A picture whose header has been read; its pixels are decoded on demand."""

    width: int  # upright, in pixels
    height: int
    orientation: int  # EXIF's, 1 to 8
    repairs: list[str]
    image: Image.Image  # as stored

    def exif_transpose(self, box: Corners, stated: tuple[int, int] | None) -> Corners:
        """A box in the coordinates of the upright picture.

        EXIF's orientation came later than the drawing tools of these sets: boxes are taken to lie on the pixels as
        stored, unless the annotation states the upright picture's size and not the stored one's.

        Args:
            box: as annotated; one that is inverted stays so.
            stated: width and height in the annotation.
        """
        exchange, mirror_x, mirror_y = _TURNS[self.orientation]
        if exchange and stated == (self.width, self.height) and self.width != self.height:
            return box
        if exchange:
            box = (box[1], box[0], box[3], box[2])
        if mirror_x:
            box = (self.width - box[2], box[1], self.width - box[0], box[3])
        if mirror_y:
            box = (box[0], self.height - box[3], box[2], self.height - box[1])
        return box

    def decode(self, channels: int, *, least: float, size: int) -> tuple[Image.Image, int]:
        """The pixels, at a fraction of the picture's size where that is enough.

        Args:
            channels: 1 for grey, 3 for RGB.
            least: the shortest side of all that will be cut out of the picture, in its pixels.
            size: side of what becomes of it.

        Returns:
            An upright picture of mode "L" or "RGB", and by how much it was reduced: 1, 2, 4 or 8. A point x of the
            picture lies at x / reduced in it.

        Raises:
            BadFile: it ends early, is damaged, or of a kind that has no 8-bit form.
        """
        image = self.image
        reduced = 1
        if image.format == "JPEG":
            # Turned round, the padded last block of a reduced picture would come first and shift the boxes.
            exact = self.orientation == 1
            while reduced < 8 and (
                (exact and least / (2 * reduced) >= KEEP * size) or self.width * self.height > MAX_DECODED * reduced**2
            ):
                reduced *= 2
            if reduced > 1:
                full = image.size
                image.draft(None, (full[0] // reduced, full[1] // reduced))
                reduced = round(full[0] / image.size[0])
        try:
            image.load()
            pixels = _eight_bits(image, "L" if channels == 1 else "RGB", self.repairs)
            if pixels is not image:
                image.close()
            return self._transpose(pixels), reduced
        except BadFile:
            raise
        except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
            raise BadFile(reason(error)) from error

    def _transpose(self, pixels: Image.Image) -> Image.Image:
        for wanted, turn in zip(_TURNS[self.orientation], _FLIPS, strict=True):
            if wanted:
                pixels = pixels.transpose(turn)
        return pixels


def looks_like_picture(head: bytes) -> bool:
    """Whether a file of these first bytes (HEAD_BYTES or more) is of one of FORMATS."""
    return _MAGIC.match(head) is not None


def open_image(file: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture file, whoever it is from: the one place where Pillow is given bytes that the kit did not make.

    Args:
        file: its content; only its header is read.
        max_pixels: more are refused.

    Returns:
        A picture whose pixels are decoded on demand.

    Raises:
        BadFile: it is no picture, of a format not in FORMATS, or too large.
    """
    try:
        image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadFile(f"over the limit of {max_pixels / 1e6:.0f} megapixels") from error
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
        raise BadFile(reason(error)) from error
    if image.width * image.height > max_pixels:
        raise BadFile(f"{image.width}×{image.height} pixels, over the limit of {max_pixels / 1e6:.0f} megapixels")
    return image


def open_picture(data: bytes) -> Picture:
    """Reads the header of a picture file.

    Raises:
        BadFile: see `open_image`.
    """
    image = open_image(data)
    width, height = image.size
    if image.format != "JPEG" and width * height > MAX_DECODED:
        raise BadFile(
            f"{width}×{height} pixels, over the limit of {MAX_DECODED / 1e6:.0f} megapixels for a {image.format}"
        )
    if image.format == "PNG":
        _scale_transparency(image)
    # A TIFF is turned by Pillow itself.
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    try:
        # In a JPEG of several pictures the others are previews and other views of the first.
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception as error:
        raise BadFile(reason(error)) from error
    if _TURNS[orientation][0]:
        width, height = height, width
    repairs = [*(["turned upright"] if orientation != 1 else []), *(["first frame taken"] if animated else [])]
    return Picture(width, height, orientation, repairs, image)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 (upright) where there is none, or nothing that can be read as one."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
        return int(found) if found in _TURNS else 1
    except Exception:  # junk; what is wrong with the pixels shows when they are decoded
        return 1


def _scale_transparency(image: Image.Image) -> None:
    """A PNG states its transparent value in its own bits, of which Pillow makes 8 without regard to it."""
    tiles = getattr(image, "tile", [])
    key, raw = image.info.get("transparency"), str(tiles[0][3]) if tiles else ""
    if isinstance(key, int) and (bits := re.search(r"L;([24])", raw)):
        image.info["transparency"] = key * 255 // (2 ** int(bits[1]) - 1)
    elif isinstance(key, tuple) and "RGB;16" in raw:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _eight_bits(image: Image.Image, mode: str, repairs: list[str]) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        # Pillow's own conversion would clip at 255, and the picture would be white.
        values = np.asarray(image)
        if (image.mode == "I" and image.format == "TIFF") or (values.size and values.max() > 0xFFFF):
            raise BadFile("signed numbers, or over 16 bits a channel")
        if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            values = 0xFFFF - values  # white is 0, which Pillow minds in 8 bits only
        repairs.append("16 bits brought to 8")
        grey = np.round(values / np.float32(257)).astype(np.uint8)
        if isinstance(key, int) and (values == key).any():
            repairs.append("laid on white")
            grey[values == key] = 255
        return Image.fromarray(grey).convert(mode)
    if image.mode == "F":
        raise BadFile("floating-point pixels")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or key is not None:
        repairs.append("laid on white")
        return _on_white(image, mode)
    if image.mode == "CMYK":
        repairs.append("CMYK brought to RGB")
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """As a page would show it. The colours under transparent pixels are often rubbish."""
    flat = Image.new(mode, image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        flat.paste(Image.alpha_composite(white, strip).convert(mode), (0, top))
    return flat


def reason(error: Exception) -> str:
    """Why a picture cannot be read, for a message: Pillow's own words name a buffer where it knows no file."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a known format"
    return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
