import math

import pytest
from dog_files import voc
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data.annotations import parse
from kit.data.archives import BadFile


def test_boxes_and_size_are_read_in_order() -> None:
    note = parse(voc((1, 2, 30, 40), ("5.5", " 6 ", "1e2", "-7"), size=(500, 375)))
    assert note.size == (500, 375)
    assert note.boxes == ((1, 2, 30, 40), (5.5, 6, 100, -7))


@pytest.mark.parametrize("number", ["", "NaN", "twelve", "0x10"])
def test_a_number_that_is_none_is_nan(number: str) -> None:
    ((xmin, ymin, xmax, ymax),) = parse(voc((1, number, 3, 4))).boxes
    assert (xmin, xmax, ymax) == (1, 3, 4)
    assert math.isnan(ymin)


def test_what_is_missing_is_nan_or_nothing() -> None:
    note = parse(b"<annotation><object/><object><bndbox><xmin>1</xmin></bndbox></object></annotation>")
    assert note.size is None
    assert [box[0] for box in note.boxes][1] == 1
    assert sum(map(math.isnan, (*note.boxes[0], *note.boxes[1]))) == 7
    assert parse(b"<annotation/>").boxes == ()


BOMB = (
    b'<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<annotation><object><name>&b;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (BOMB, "document type"),
        (BOMB.decode().encode("utf-16"), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
        (b"", "no XML"),
        (b"n02085620_10074 1 2 3 4", "no XML"),
        (b"<annotation><object>", "no XML"),
        (b"\x89PNG\r\n\x1a\n", "no XML"),
        (b"<?xml version='1.0' encoding='nonsense'?><annotation/>", "no XML"),
        (b"<annotation>\xff</annotation>", "no XML"),
    ],
)
def test_what_is_no_annotation_is_a_bad_file_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        parse(data)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(width=32)] * 4), max_size=4))
def test_any_numbers_come_back(boxes: list[tuple[float, float, float, float]]) -> None:
    found = parse(voc(*boxes)).boxes
    assert len(found) == len(boxes)
    for box, expected in zip(found, boxes, strict=True):
        assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(box, expected, strict=True))


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="<>/abject &;![]\"'-?=", max_size=60).map(str.encode))
def test_any_bytes_are_an_annotation_or_a_bad_file(data: bytes) -> None:
    try:
        boxes = parse(data).boxes
    except BadFile:
        boxes = ()
    assert isinstance(boxes, tuple)
