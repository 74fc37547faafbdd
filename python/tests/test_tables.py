"""Tables, and other libraries that read them."""

from __future__ import annotations

import gc

import forge_kernel
import pandas
import polars
import pyarrow
import pytest

TABLE = forge_kernel.Table(
    {
        "return_period": [2, 5, 10],
        "var": [1.5, None, -0.0],
        "name": ["motor", None, "Haftpflicht – ü"],
        "nothing": [None, None, None],
    }
)


def test_arrow_has_types_and_nulls() -> None:
    table = pyarrow.table(TABLE)
    table.validate(full=True)
    assert [str(kind) for kind in table.schema.types] == ["int64", "double", "large_string", "int64"]
    assert table.to_pydict() == TABLE.to_dict()
    assert [column.null_count for column in table.columns] == [0, 1, 1, 3]


def test_arrow_reads_long_and_empty_tables() -> None:
    values = [None if value % 3 == 0 else value / 2 for value in range(1000)]
    long = forge_kernel.Table({"value": values, "text": [str(value) for value in values]})
    read = pyarrow.table(long)
    read.validate(full=True)
    assert read.to_pydict() == long.to_dict()
    assert pyarrow.table(forge_kernel.Table({"value": []})).num_rows == 0
    assert pyarrow.table(forge_kernel.Table({})).num_columns == 0


def test_streams_are_released_once() -> None:
    """pyarrow counts what it holds; a stream that is dropped or read twice must neither crash nor leak."""
    for _ in range(200):
        capsule = TABLE.__arrow_c_stream__()
        del capsule
        reader = pyarrow.RecordBatchReader.from_stream(TABLE)
        first = reader.read_next_batch()
        with pytest.raises(StopIteration):
            reader.read_next_batch()
        del reader
        gc.collect(0)
        assert first.to_pydict()["return_period"] == [2, 5, 10]


def test_columns_have_one_length_and_one_type() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        forge_kernel.Table({"a": [1], "b": []})
    with pytest.raises(TypeError):
        forge_kernel.Table({"a": [1, "b"]}).__arrow_c_stream__()


def test_pandas_and_polars_agree() -> None:
    exceedance = forge_kernel.run("examples/portfolio.json").exceedance
    in_pandas, in_polars = exceedance.to_pandas(), exceedance.to_polars()
    assert isinstance(in_pandas, pandas.DataFrame) and isinstance(in_polars, polars.DataFrame)
    assert list(in_pandas.columns) == in_polars.columns == exceedance.columns
    assert in_pandas.to_dict("list") == in_polars.to_dict(as_series=False) == exceedance.to_dict()
    assert str(in_pandas["return_period"].dtype) == "int64" and str(in_pandas["net_var"].dtype) == "float64"


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pandas", "polars", "matplotlib.pyplot"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(forge_kernel.ForgeError, match="to_pandas needs pandas: pip install pandas"):
        TABLE.to_pandas()
    with pytest.raises(forge_kernel.ForgeError, match="to_polars needs polars: pip install polars"):
        TABLE.to_polars()
    result = forge_kernel.run("examples/minimal.json")
    with pytest.raises(forge_kernel.ForgeError, match="plot_ep needs matplotlib: pip install matplotlib"):
        result.plot_ep()


def test_tables_of_a_portfolio() -> None:
    result = forge_kernel.run("examples/portfolio.json")
    output = result.to_dict()["output"]
    assert result.lines["gross_mean"] == [line["gross"]["mean"] for line in output["lines"]]
    level = next(quantile for quantile in output["treaties"][2]["ceded"]["quantiles"] if quantile["level"] == 0.995)
    assert result.treaties["ceded_var_0.995"][2] == level["var"]
    assert result.quantiles["var"] == [quantile["var"] for quantile in output["net"]["quantiles"]]
    allocation = [row for row in result.allocation.rows() if row["level"] == 0.995]
    *parts, net = [row["tail"] for row in allocation]
    assert isinstance(net, float) and sum(part for part in parts if isinstance(part, float)) == pytest.approx(net)


def test_html_is_escaped() -> None:
    table = forge_kernel.Table({"<b>": ["<script>"]})
    assert "<script>" not in table._repr_html_() and "<b>" not in table._repr_html_()


def test_plots_show_every_perspective() -> None:
    axes = forge_kernel.run("examples/portfolio.json").plot_ep()
    assert [line.get_label() for line in axes.lines] == ["net AEP", "gross AEP", "gross OEP"]
    assert axes.get_xscale() == "log"
