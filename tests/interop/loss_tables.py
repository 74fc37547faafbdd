#!/usr/bin/env python3
"""Reads the tables of `forge export --table` with other programs: pandas, pyarrow, Polars, and
Oasis' own tools for Open Results Data.

    tests/interop/loss_tables.py FORGE

FORGE needs the cargo feature `columnar`. The exceedance table is computed again from the years with
pandas, and must be that of `ept.csv`, up to the width of a bucket of the result's histograms.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/deploy"), str(ROOT / "python")]

import tools  # noqa: E402
import wheel  # noqa: E402
from tools import Checks, Failure, require  # noqa: E402

REQUIREMENTS = Path(__file__).resolve().parent / "oasis-requirements.txt"
YEARS = 30_000
# What Oasis calls the tables that have another name there.
OASIS_NAMES = {"alt": "aal"}
STATISTICS = ["alt", "alct", "ept", "psept"]


def oasis_packages():
    """Returns the folder with Oasis' packages, installed for the Python of the package's tests."""
    name = f"oasis-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    directory = tools.TOOLS / name
    if not directory.is_dir():
        staging = tools.TOOLS / f".staging-{os.getpid()}"
        pip = [wheel.environment() / "python", "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
        tools.run(*pip, "--target", staging, "--requirement", REQUIREMENTS)
        staging.rename(directory)
    return directory


def restart():
    """Restarts in the environment that has pandas, with Oasis' packages in its path."""
    packages = str(oasis_packages())
    if packages in sys.path:
        return
    python = wheel.environment() / "python"
    os.execve(python, [str(python), *sys.argv], dict(os.environ, PYTHONPATH=packages, PYTHONDONTWRITEBYTECODE="1"))


def export(forge, store, job, directory, *options):
    """Exports tables, and returns the described files by name."""
    command = [forge, "export", store / "jobs" / job, "--no-progress", "--format", "json", "-o", directory, *options]
    document = json.loads(tools.run(*command))
    for file in document["files"]:
        content = (directory / file["file"]).read_bytes()
        require(hashlib.sha256(content).hexdigest() == file["sha256"], f"{file['file']} has another hash")
    return {file["file"]: file for file in document["files"]}


def check_formats(directory, names, checks):
    """The three formats have the same values, with the same types of amounts."""
    import pandas
    import polars
    import pyarrow
    from pyarrow import csv, ipc, parquet

    for name in names:
        path = directory / name
        table = parquet.read_table(f"{path}.parquet")
        with ipc.open_file(f"{path}.arrow") as file:
            arrow = file.read_all()
        require(table.equals(arrow), f"{name}: Parquet and Arrow differ")
        # Exact: the text of an amount is read as a decimal.
        options = csv.ConvertOptions(column_types=table.schema)
        text = csv.read_csv(f"{path}.csv", convert_options=options).cast(table.schema)
        require(table.equals(text), f"{name}: Parquet and CSV differ")
        for field in table.schema:
            require(not field.nullable, f"{name}: {field.name} is nullable")
            is_amount = field.name in ("Loss", "MaxLoss", "ImpactedExposure") and not name.endswith("ept")
            require((field.type == pyarrow.decimal128(18, 2)) == is_amount, f"{name}: {field}")
        frame = polars.read_parquet(f"{path}.parquet")
        require(frame.height == table.num_rows and frame.columns == table.column_names, f"{name}: Polars")
        require(len(pandas.read_parquet(f"{path}.parquet")) == table.num_rows, f"{name}: pandas")
    checks.ok(f"{len(names)} tables are the same as CSV, Parquet and Arrow")


def check_oasis(directory, names, checks):
    """Oasis' converters read CSV and Parquet, and find their own columns in their own order."""
    import numpy
    from oasislmf.pytools.converters.csvtobin.manager import csvtobin
    from oasislmf.pytools.converters.data import TOOL_INFO
    from oasislmf.pytools.converters.parquettobin.manager import parquettobin
    from oasislmf.pytools.join_summary_info.manager import run as join

    for name in names:
        table = name.rsplit("_", 1)[1]
        kind = OASIS_NAMES.get(table, table)
        info = TOOL_INFO[kind]
        with open(directory / f"{name}.csv") as file:
            header = file.readline().strip().split(",")
        require(header == info["headers"], f"{name} has the columns {header}, Oasis {info['headers']}")
        arrays = []
        for convert, extension in [(csvtobin, "csv"), (parquettobin, "parquet")]:
            binary = directory / f"{name}.bin"
            convert(directory / f"{name}.{extension}", binary, kind)
            arrays.append(numpy.fromfile(binary, dtype=info["dtype"]))
        require(len(arrays[0]) == len(arrays[1]) > 0, f"{name}: Oasis reads {list(map(len, arrays))} rows")
        for column in info["headers"]:
            # Oasis keeps 32 bits of a number.
            same = numpy.allclose(arrays[0][column], arrays[1][column], rtol=1e-6, atol=0)
            require(same, f"{name}: Oasis reads another {column} from CSV than from Parquet")
    joined = directory / "joined.csv"
    join(directory / "il_S2_summary-info.csv", directory / "il_S2_splt.csv", joined)
    with open(joined) as file:
        lines = [file.readline().strip().split(",") for _ in range(3)]
    require(lines[0][-1] == "line" and lines[1][-1] == "property", f"Oasis joins {lines}")
    checks.ok(f"Oasis reads {len(names)} tables and joins the names of summaries")


def order_statistics(losses, years, period):
    """Value at risk and tail value of all years; those without a row have no loss."""
    ascending = [0.0] * (years - len(losses)) + sorted(losses)
    rank = math.ceil(years * (period - 1) / period)
    var = ascending[rank - 1]
    above = years / period
    tail = math.fsum(ascending[rank:]) + (rank - years * (period - 1) / period) * var
    return var, tail / above


def check_exceedance(directory, years, prefix, loss, ep_type, ept, width, checks):
    """Losses by period yield the rows of an exceedance table."""
    rows = ept[ept.EPType.isin([ep_type, ep_type + 1])].set_index(["EPType", "ReturnPeriod"]).Loss
    require(len(rows) > 0, f"{prefix}: no rows of type {ep_type}")
    for (kind, period), stated in rows.items():
        exact = order_statistics(list(loss), years, period)[kind - ep_type]
        # A bucket holds several losses only where these are dense.
        require(
            abs(stated - exact) <= width * exact + 0.01,
            f"{prefix}: {stated} stated for type {kind} and {period} years, but the years yield {exact}",
        )
    checks.ok(f"{prefix}: {len(rows)} rows of type {ep_type} follow from the years")


def check_portfolio(forge, directory, checks):
    """The portfolio of the examples."""
    import pandas

    envelope = json.loads((ROOT / "examples/portfolio.json").read_text())
    envelope["args"]["iterations"] = YEARS
    job = envelope["ctx"]["job_id"]
    (directory / "envelope.json").write_text(json.dumps(envelope))
    store, out = directory / "store", directory / "tables"
    tools.run(forge, "run", directory / "envelope.json", "--no-progress", "--out", store)
    sizes = {}
    for extension in ["csv", "parquet", "arrow"]:
        options = ["--as", extension]
        files = export(forge, store, job, out, *options, "--table", "ylt,ept", "--perspective", "gross,net")
        files |= export(forge, store, job, out, *options, "--table", ",".join(STATISTICS), "--perspective", "gross", "--by", "line")
        files |= export(forge, store, job, out, *options, "--table", "ylt", "--perspective", "ceded", "--by", "treaty")
        years = ["--years", "0..10000"]
        files |= export(forge, store, job, out, *options, "--table", "splt", "--perspective", "gross", "--by", "line", *years)
        sizes[extension] = files[f"il_S2_splt.{extension}"]
    names = [name.removesuffix(".csv") for name in map(str, sorted(path.name for path in out.glob("*.csv")))]
    names = [name for name in names if not name.endswith("summary-info")]
    require(len(names) == 10, f"10 tables expected: {names}")
    rows = sizes["csv"]["rows"]
    print("bytes a row of splt: " + ", ".join(f"{name} {size['bytes'] / rows:.1f}" for name, size in sizes.items()))
    check_formats(out, names, checks)
    check_oasis(out, [name for name in names if not name.endswith("ylt")], checks)

    manifest = json.loads((store / f"jobs/{job}/manifest.json").read_text())
    digest = next(artifact["sha256"] for artifact in manifest["artifacts"] if artifact["name"] == "ept.csv")
    stated = pandas.read_csv(store / f"artifacts/sha256/{digest}/ept.csv")
    # Widths of the buckets of the total and the largest occurrence, and of other quantities.
    fine, coarse = 2**-10, 2**-8
    for prefix, summary, width in [("il", 1, coarse), ("ri", 2, fine)]:
        ylt = pandas.read_csv(out / f"{prefix}_S1_ylt.csv")
        ept = stated[stated.SummaryId == summary]
        exported = pandas.read_csv(out / f"{prefix}_S1_ept.csv")
        same = exported.drop(columns="SummaryId").equals(ept.drop(columns="SummaryId").reset_index(drop=True).astype(exported.drop(columns="SummaryId").dtypes))
        require(same, f"{prefix}_S1_ept.csv differs from ept.csv")
        check_exceedance(out, YEARS, f"{prefix} years", ylt.Loss, 3, ept, width, checks)
        if prefix == "il":
            check_exceedance(out, YEARS, "il largest", ylt.MaxLoss, 1, ept, fine, checks)
    # The occurrences of some years yield the rows of these years.
    splt = pandas.read_csv(out / "il_S2_splt.csv")
    ylt = pandas.read_csv(out / "il_S1_ylt.csv").set_index("Period")
    events = splt.groupby(["Period", "EventId"], as_index=False).Loss.sum()
    years = events.groupby("Period").Loss.sum()
    require(((years - ylt.Loss[years.index]).abs() < 0.005).all(), "occurrences do not add up to their years")
    largest = events[events.EventId % 1_000_000 > 0].groupby("Period").Loss.max()
    require(((largest - ylt.MaxLoss[largest.index]).abs() < 0.005).all(), "the largest occurrences differ")
    checks.ok(f"{len(splt)} occurrences add up to {len(years)} years")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    restart()
    checks = Checks()
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(sys.stderr):
        check_portfolio(forge, Path(directory), checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"loss_tables.py: {failure}")
