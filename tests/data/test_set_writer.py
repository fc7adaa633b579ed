from pathlib import Path

import numpy as np
import pytest

from kit.data.set_writer import GrowingArray


@pytest.mark.parametrize("row", [(), (3,), (4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("parts", [(), (1,), (3, 0, 9), (4096, 70_000)])
def test_it_reads_back_as_numpy_would_have_saved_it(
    row: tuple[int, ...], dtype: type[np.generic], parts: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    if sum(parts) > 10_000 and row:
        row = row[:1]
    chunks = [rng.integers(0, 256, (n, *row)).astype(dtype) for n in parts]
    with GrowingArray(tmp_path / "a.npy", row, dtype) as array:
        for chunk in chunks:
            array.append(chunk)
        assert array.length == sum(parts)
    expected = np.concatenate([np.empty((0, *row), dtype), *chunks])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    np.save(tmp_path / "b.npy", expected)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    if len(expected):
        mapped = np.lib.format.open_memmap(tmp_path / "a.npy", mode="r")
        assert mapped.shape == expected.shape


@pytest.mark.parametrize("rows", [np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.int16), np.zeros(3, np.uint8)])
def test_rows_of_another_kind_are_refused(rows: np.ndarray, tmp_path: Path) -> None:
    with GrowingArray(tmp_path / "a.npy", (3,), np.uint8) as array, pytest.raises(ValueError, match="for an array of"):
        array.append(rows)
