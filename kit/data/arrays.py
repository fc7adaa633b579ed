"""NPY files that grow row by row."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class GrowingArray:
    """An NPY file whose length is known only at its end; it never stands in memory.

    Args:
        path: the file.
        row: shape of a row.
        dtype: of the numbers.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.length = 0
        self._row = row
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows, (n, *row)."""
        if rows.shape[1:] != self._row or rows.dtype != self._dtype:
            raise ValueError(f"rows {rows.dtype} {rows.shape} for an array of {self._dtype} {self._row}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.length += len(rows)

    def _write_header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow to any length.
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.length, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()
