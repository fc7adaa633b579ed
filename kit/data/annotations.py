"""Pascal VOC annotations: which boxes lie on a picture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from xml.parsers import expat

from kit.data.archives import BadFile

MAX_BYTES = 2**20
"""One annotation; a real one has half a kilobyte."""

Corners = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax as they were written: they may lie anywhere, be swapped, or be NaN."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotation says of its picture."""

    size: tuple[int, int] | None  # width and height in pixels, where it states them
    boxes: tuple[Corners, ...]  # one an object, in pixels; NaN stands for a number that is missing or none


def parse(data: bytes) -> Annotation:
    """Reads an annotation.

    Args:
        data: the XML; `object/bndbox/{xmin,ymin,xmax,ymax}` and `size/{width,height}` are looked at.

    Raises:
        BadFile: it is no XML, or XML with a document type, which VOC never has and every entity bomb needs.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
        root = builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise BadFile(f"its annotation is no XML ({error})") from error
    boxes = tuple(
        (_number(box, "xmin"), _number(box, "ymin"), _number(box, "xmax"), _number(box, "ymax"))
        for box in (thing.find("bndbox") for thing in root.findall("object"))
    )
    stated = root.find("size")
    width, height = _number(stated, "width"), _number(stated, "height")
    known = math.isfinite(width) and math.isfinite(height)
    return Annotation((int(width), int(height)) if known else None, boxes)


def _number(parent: ET.Element | None, tag: str) -> float:
    text = parent.findtext(tag) if parent is not None else None
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _refuse_doctype(*_: object) -> None:
    raise BadFile("its annotation has a document type, which no annotation needs")
