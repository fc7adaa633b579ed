"""One picture, from the bytes of its file to upright pixels of 8 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from kit.data.annotations import Corners
from kit.data.archives import BadFile

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened, by content and not by name; Pillow's other decoders are never given a stranger's file."""

SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
"""Names that promise a picture."""

MAX_PIXELS = 2**26
"""A picture of over 67 megapixels is refused: two at a time would need a gigabyte."""

KEEP = 2
"""A JPEG may be decoded at half, a quarter or an eighth of its size while so many times the target is left."""

_ORIENTATION = 0x0112  # the EXIF tag

# EXIF's orientation → (exchange x and y, then mirror x, then mirror y), which makes the picture upright.
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

    def upright(self, box: Corners, stated: tuple[int, int] | None) -> Corners:
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
        # Turned round, the padded last block of a reduced picture would come first and shift the boxes.
        if image.format == "JPEG" and self.orientation == 1:
            while reduced < 8 and least / (2 * reduced) >= KEEP * size:
                reduced *= 2
            if reduced > 1:
                full = image.size
                image.draft(None, (full[0] // reduced, full[1] // reduced))
                reduced = round(full[0] / image.size[0])
        try:
            image.load()
            pixels = _eight_bits(image, "L" if channels == 1 else "RGB", self.repairs)
            return self._turn(pixels), reduced
        except BadFile:
            raise
        except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
            raise BadFile(_reason(error)) from error

    def _turn(self, pixels: Image.Image) -> Image.Image:
        for wanted, turn in zip(_TURNS[self.orientation], _FLIPS, strict=True):
            if wanted:
                pixels = pixels.transpose(turn)
        return pixels


def open_picture(data: bytes) -> Picture:
    """Reads the header of a picture file.

    Raises:
        BadFile: it is no picture, of a format not in FORMATS, or over MAX_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadFile(f"{width}×{height} pixels, over the limit of {MAX_PIXELS / 1e6:.0f} megapixels")
        # Only now: Pillow decodes all of a PNG to look for the tag. A TIFF it turns by itself.
        orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
        # In a JPEG of several pictures the others are previews and other views of the first.
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except BadFile:
        raise
    except Image.DecompressionBombError as error:
        raise BadFile(f"over the limit of {MAX_PIXELS / 1e6:.0f} megapixels") from error
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
        raise BadFile(_reason(error)) from error
    if orientation not in _TURNS:
        orientation = 1
    if _TURNS[orientation][0]:
        width, height = height, width
    repairs = [*(["turned upright"] if orientation != 1 else []), *(["first frame taken"] if animated else [])]
    return Picture(width, height, orientation, repairs, image)


def _eight_bits(image: Image.Image, mode: str, repairs: list[str]) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        # As a page would show it. The colours under transparent pixels are often rubbish.
        repairs.append("laid on white")
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert(mode)
    if image.mode.startswith("I"):
        # Pillow's own conversion would clip at 255, and the picture would be white.
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise BadFile("over 16 bits a channel")
        repairs.append("16 bits brought to 8")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        raise BadFile("floating-point pixels")
    if image.mode == "CMYK":
        repairs.append("CMYK brought to RGB")
    return image if image.mode == mode else image.convert(mode)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no picture, or of an unknown format"
    return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
