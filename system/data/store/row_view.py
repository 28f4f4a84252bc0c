"""Rows of large arrays that are read only when they are asked for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped

Rows = np.ndarray | int | slice


class RowView:
    """Some rows of arrays that lie behind one another, as one column; nothing is copied before it is read.

    A split of 25,000 frames, or several games together, would otherwise be hundreds of megabytes once more.

    Args:
        parts: arrays of the same dtype and row shape, usually memory-mapped; at least one.
        rows: row numbers, counted over all parts; None takes every row once.
    """

    def __init__(self, parts: Sequence[np.ndarray], rows: Int64[np.ndarray, "N"] | None = None) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.rows = np.arange(self._starts[-1]) if rows is None else rows
        self.dtype = parts[0].dtype
        self.shape = (len(self.rows), *parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: Rows) -> Shaped[np.ndarray, "..."]:
        """A copy of the rows at `index`, which addresses the first axis as it would in an array."""
        rows = np.asarray(self.rows[index])
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][rows])
        values = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part):
            chosen = part == number
            values[chosen] = self.parts[number][rows[chosen] - self._starts[number]]
        return values

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> Shaped[np.ndarray, "..."]:
        """Every row, in memory."""
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


Column = np.ndarray | RowView


def select_rows(column: Column, rows: Int64[np.ndarray, "N"]) -> Column:
    """The column with some rows only: a copy of numbers and tokens, a view of frames.

    Args:
        column: frames are told by their dtype, uint8.
        rows: which, in order.
    """
    if isinstance(column, RowView):
        return RowView(column.parts, column.rows[rows])
    return RowView([column], rows) if column.dtype == np.uint8 else column[rows]


def join_columns(columns: Sequence[Column]) -> Column:
    """The columns behind one another: a copy of numbers and tokens, a view of frames.

    Args:
        columns: of the same dtype and row shape; at least one.
    """
    if columns[0].dtype != np.uint8:
        return np.concatenate([np.asarray(column) for column in columns])
    views = [column if isinstance(column, RowView) else RowView([column]) for column in columns]
    parts: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    before = 0
    for view in views:
        parts += view.parts
        rows.append(view.rows + before)
        before += sum(len(part) for part in view.parts)
    return RowView(parts, np.concatenate(rows))


def read_rows(column: Column, rows: np.ndarray) -> Shaped[np.ndarray, "..."]:
    """A copy of some rows.

    Args:
        column: where from.
        rows: row numbers of any shape.

    Returns:
        An array of the shape of `rows` followed by that of a row.
    """
    return column[rows] if isinstance(column, RowView) else column.take(rows, axis=0)
