"""A small read-only table: rows that are dataclasses, to be filtered, sorted and looked at."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")
_SHOWN = 20  # rows that repr shows


class Table(Sequence, Generic[Row]):
    """Rows of one dataclass; the fields are the columns.

    Indexing, iterating and len work as with a list; a slice is a table again. Printing shows the
    first rows, aligned.
    """

    def __init__(self, row_type: type[Row], rows: Iterable[Row]):
        self._row_type = row_type
        self._rows = tuple(rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(field.name for field in dataclasses.fields(self._row_type))

    def column(self, name: str) -> list[Any]:
        """The values of a column, row by row."""
        self._check_column(name)
        return [getattr(row, name) for row in self._rows]

    def filter(self, **conditions: Any) -> Table[Row]:
        """The rows that meet every condition.

        Args:
          **conditions: column=value (equal), column=collection (one of these), or column=callable
            (true for the value), as in `filter(ds="i21k", wd={0.03, 0.1}, final_val=lambda v: v >
            0.5)`. An empty cell is None.

        Raises:
          ValueError: for an unknown column, or a text that no row of this table has in its column
            (most likely a misspelling): with the nearest that there are.
        """
        rows = self._rows
        for name, wanted in conditions.items():
            self._check_column(name)
            if isinstance(wanted, str):
                self._check_text(name, wanted)
            test = _as_test(wanted)
            rows = [row for row in rows if test(getattr(row, name))]
        return type(self)(self._row_type, rows)

    def sort(self, column: str, descending: bool = False) -> Table[Row]:
        """Sorted by a column, rows without a value last; equal values stay in their order."""
        self._check_column(column)
        present = [row for row in self._rows if getattr(row, column) is not None]
        absent = [row for row in self._rows if getattr(row, column) is None]
        present.sort(key=lambda row: getattr(row, column), reverse=descending)
        return type(self)(self._row_type, present + absent)

    def distinct(self, *columns: str) -> Table[Row]:
        """The first row of each combination of values in `columns`."""
        for name in columns:
            self._check_column(name)
        first: dict[tuple, Row] = {}
        for row in self._rows:
            first.setdefault(tuple(getattr(row, name) for name in columns), row)
        return type(self)(self._row_type, first.values())

    def to_string(self, columns: Sequence[str] | None = None, rows: int | None = None) -> str:
        """The table as aligned text.

        Args:
          columns: which to show; None for those in which the rows aren't all empty.
          rows: how many to show; None for all.
        """
        shown = self._rows[:rows]
        if columns is None:
            columns = [
                name
                for name in self.columns
                if not shown or any(getattr(row, name) is not None for row in shown)
            ]
        cells = [list(columns)] + [[_cell(getattr(row, name)) for name in columns] for row in shown]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        if len(shown) < len(self._rows):
            lines.append(f"... {len(self._rows):,} rows")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.to_string(rows=_SHOWN)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __getitem__(self, index):
        picked = self._rows[index]
        return type(self)(self._row_type, picked) if isinstance(index, slice) else picked

    def _check_column(self, name: str) -> None:
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0)
            raise ValueError(
                f"column is {name!r}; expected one of {', '.join(self.columns)}. "
                f"Nearest: {near[0]}."
            )

    def _check_text(self, name: str, wanted: str) -> None:
        values = {getattr(row, name) for row in self._rows} - {None}
        if self._rows and wanted not in values:
            texts = sorted(map(str, values))
            near = difflib.get_close_matches(wanted, texts, n=3, cutoff=0.4) or texts[:10]
            raise ValueError(f"{name} is {wanted!r}; no row has that. Near it: {', '.join(near)}.")


def _as_test(wanted: Any) -> Callable[[Any], bool]:
    if isinstance(wanted, str):
        return lambda value: value == wanted
    if callable(wanted):
        return lambda value: value is not None and wanted(value)
    if isinstance(wanted, Collection):
        return lambda value: value in wanted
    return lambda value: value == wanted


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
