"""A small table, which other libraries read over Arrow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import ForgeError

if TYPE_CHECKING:
    import pandas
    import polars

Cell = int | float | str | None

# The order of these members of JSON objects; others follow by name.
FIRST = (
    "level name return_period mean std_error std_dev min max net gross largest_occurrence aep oep"
    " var var_low var_high tvar tvar_low tvar_high"
).split()
# Columns of whole numbers. All other numbers are amounts or shares, of which some happen to be
# whole.
INTEGER_COLUMNS = frozenset({"return_period", "occurrences", "capped"})


class Table:
    """Named columns of equal length.

    pandas, Polars, pyarrow and everything else that reads the Arrow PyCapsule interface accept it.

    >>> table = Table({"level": [0.99, 0.995], "var": [23689.21, 61384.41]})
    >>> table
    level       var
     0.99 23,689.21
    0.995 61,384.41
    >>> table["var"]
    [23689.21, 61384.41]
    >>> len(table)
    2
    """

    def __init__(self, columns: Mapping[str, Sequence[Cell]]) -> None:
        self._columns = {name: list(values) for name, values in columns.items()}
        if len({len(values) for values in self._columns.values()}) > 1:
            raise ValueError("the columns have different lengths")

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Returns the table of JSON objects.

        A member of a nested object becomes a column of its own, as in ``net_var``. A list of
        quantiles becomes a column for each level and figure, as in ``var_0.995``. Other lists are
        left out.

        >>> Table.from_rows([{"name": "motor", "gross": {"mean": 2}}]).to_dict()
        {'name': ['motor'], 'gross_mean': [2.0]}
        """
        flat = [dict(_flatten(row)) for row in rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        return cls({name: [_cell(name, row.get(name)) for row in flat] for name in names})

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def __getitem__(self, column: str) -> list[Cell]:
        """The values of a column."""
        return list(self._columns[column])

    def __len__(self) -> int:
        return next((len(values) for values in self._columns.values()), 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]

    def rows(self) -> list[dict[str, Cell]]:
        """Returns one dict per row.

        >>> Table({"level": [0.5], "var": [1.0]}).rows()
        [{'level': 0.5, 'var': 1.0}]
        """
        return [dict(zip(self._columns, row)) for row in zip(*self._columns.values())]

    def to_dict(self) -> dict[str, list[Cell]]:
        """Returns the columns.

        >>> Table({"level": [0.5]}).to_dict()
        {'level': [0.5]}
        """
        return {name: list(values) for name, values in self._columns.items()}

    def to_pandas(self) -> pandas.DataFrame:
        """Returns a DataFrame of pandas, which must be installed.

        >>> Table({"level": [0.5, 0.9]}).to_pandas()["level"].sum()
        np.float64(1.4)
        """
        frame: pandas.DataFrame = require("pandas", "to_pandas").DataFrame(self._columns)
        return frame

    def to_polars(self) -> polars.DataFrame:
        """Returns a DataFrame of Polars, which must be installed.

        >>> Table({"level": [0.5, 0.9]}).to_polars().shape
        (2, 1)
        """
        frame: polars.DataFrame = require("polars", "to_polars").DataFrame(self)
        return frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as a stream of the Arrow C interface. A requested schema is not applied."""
        return _native.arrow_stream(list(self._columns.items()))

    def __repr__(self) -> str:
        texts = [[name, *map(_text, values)] for name, values in self._columns.items()]
        widths = [max(map(len, column)) for column in texts]
        return "\n".join(
            " ".join(text.rjust(width) for text, width in zip(row, widths)) for row in zip(*texts)
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self._columns)
        rows = (
            "".join(f"<td style='text-align: right'>{escape(_text(cell))}</td>" for cell in row)
            for row in zip(*self._columns.values())
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def require(module: str, method: str) -> Any:
    """Imports a library that this package does not depend on."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ForgeError(f"{method} needs {package}: pip install {package}") from error


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    places = {name: place for place, name in enumerate(FIRST)}
    for name in sorted(row, key=lambda name: (places.get(name, len(FIRST)), name)):
        value = row[name]
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}_")
        elif name == "quantiles":
            for quantile in value:
                for figure in ("var", "tvar"):
                    yield f"{prefix}{figure}_{quantile['level']}", quantile[figure]
        elif not isinstance(value, list):
            yield prefix + name, value


def _cell(name: str, value: Any) -> Cell:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number and name not in INTEGER_COLUMNS else value


def _text(value: Cell) -> str:
    """A value for people."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f"{value:,.2f}"
    return f"{value:.6g}"
