#!/usr/bin/env python3
"""Reads the workbook of `forge report --xlsx` with openpyxl.

    tests/interop/workbook.py FORGE

FORGE needs the cargo feature `xlsx`. Every figure must be the number of `result.json`, also after
LibreOffice has read and written the workbook, and the same result must give the same bytes.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/deploy"))

from tools import TOOLS, Checks, Failure, environment, require, run  # noqa: E402

OPENPYXL = "openpyxl==3.1.5"
YEARS = 20_000
SHEETS = {
    "portfolio": ["Summary", "Exceedance", "Lines", "Treaties", "Allocation", "Checks", "Model"],
    "insurance": ["Summary", "Exceedance", "Model"],
    "eta": ["Summary", "Model"],
}
CHARTS = {"portfolio": 4, "insurance": 1, "eta": 0}
# Rows of a sheet before its headings.
ABOVE = 2


class Near(float):
    """A number that equals others with the same 14 digits."""

    def __eq__(self, other):
        return isinstance(other, (int, float)) and math.isclose(self, other, rel_tol=1e-14)

    def __ne__(self, other):
        return not self == other

    __hash__ = float.__hash__


def restart():
    """Restarts in the environment that has openpyxl."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    python = environment(OPENPYXL) / "bin/python"
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), *sys.argv])


def table(sheet):
    """Headings and rows of a sheet, up to the first empty row."""
    rows = [list(row) for row in sheet.iter_rows(min_row=ABOVE + 1, values_only=True)]
    end = next((at for at, row in enumerate(rows) if all(cell is None for cell in row)), len(rows))
    return rows[0], rows[1:end]


def check_exceedance(sheet, result):
    header, rows = table(sheet)
    names = {"Net AEP": "net", "Gross AEP": "gross", "Net OEP": "net_largest_occurrence", "Gross OEP": "largest_occurrence",
             "AEP": "aep", "OEP": "oep"}
    suffixes = {"": "var", " low": "var_low", " high": "var_high", " TVaR": "tvar", " TVaR low": "tvar_low", " TVaR high": "tvar_high"}
    columns = {name + suffix: (measure, figure) for name, measure in names.items() for suffix, figure in suffixes.items()}
    stated = result["output"]["exceedance"]
    expected = {"Return period"} | {heading for heading, (measure, _) in columns.items() if measure in stated[0]}
    require(set(header) == expected, f"Exceedance: {header}")
    # Of 20,000 years fewer than 400 lie beyond 100 years.
    notes = [row[0] for row in sheet.iter_rows(values_only=True) if isinstance(row[0], str) and "Fewer than 400" in row[0]]
    require(len(notes) == 1 and "100 years or more" in notes[0], f"Exceedance: {notes}")
    require(len(rows) == len(stated), f"{len(rows)} return periods")
    for row, figures in zip(rows, stated):
        for heading, cell in zip(header, row):
            measure, figure = columns.get(heading, (None, None))
            expected = figures[measure][figure] if measure else figures["return_period"]
            require(cell == expected, f"Exceedance: {heading} is {cell!r}, result.json has {expected!r}")


def check_figures(sheet, stated):
    """Rows of moments and quantiles."""
    header, rows = table(sheet)
    require(len(rows) >= len(stated), f"{sheet.title}: {len(rows)} rows")
    for row, (name, figures) in zip(rows, stated):
        cells = dict(zip(header, row))
        require(row[0] == name, f"{sheet.title}: {row[0]} in place of {name}")
        expected = {"Mean": figures["mean"], "Std. dev.": figures["std_dev"], "Largest": figures["max"]}
        for quantile in figures["quantiles"]:
            level = f"{quantile['level'] * 100:.6f}".rstrip("0").rstrip(".")
            expected |= {f"VaR {level}%": quantile["var"], f"TVaR {level}%": quantile["tvar"]}
        for heading, value in expected.items():
            require(cells[heading] == value, f"{name}: {heading} is {cells[heading]!r}, not {value!r}")


def check_portfolio(book, result):
    output = result["output"]
    check_figures(book["Lines"], [(line["name"], line["gross"]) for line in output["lines"]])
    check_figures(book["Treaties"], [(treaty["name"], treaty["ceded"]) for treaty in output["treaties"]])
    header, rows = table(book["Allocation"])
    names = [part["name"] for part in output["lines"] + output["treaties"]] + ["net"]
    require([row[0] for row in rows] == names, f"Allocation: {rows}")
    for at, level in enumerate(output["allocation"]):
        tail = level["tail"]
        require([row[2 + at] for row in rows] == tail["lines"] + tail["treaties"] + [tail["net"]], f"{header[2 + at]}")
    checks = {row[0]: row for row in table(book["Checks"])[1]}
    stated = output["checks"]["groups"][1]["count"]["mean"]
    require(list(checks["groups, large, count, mean"][1:4]) == [stated["expected"], stated["found"], stated["z"]], "Checks")


def check_book(path, name, result):
    """Every figure of a workbook is that of result.json."""
    import openpyxl

    book = openpyxl.load_workbook(path)
    require(book.sheetnames == SHEETS[name], f"{name}: {book.sheetnames}")
    title = book["Summary"].cell(1, 1)
    require((title.value, title.data_type) == ("=1+1", "s"), f"a title became {title.data_type} {title.value}")
    figures = {row[0]: row[1] for row in table(book["Summary"])[1]}
    mean = result["output"].get("mean_loss", result["output"].get("mean_eta", result["output"].get("net", {}).get("mean")))
    require(figures["Mean"] == mean, f"{name}: mean {figures['Mean']!r}, not {mean!r}")
    # Of 20,000 iterations 200 lie beyond 99%, and 1,000 beyond 95%.
    require("TVaR at 99% *" in figures and "TVaR at 95%" in figures, f"{name}: {list(figures)}")
    if "Exceedance" in book.sheetnames:
        check_exceedance(book["Exceedance"], result)
    if name == "portfolio":
        check_portfolio(book, result)
    args = {row[0]: row[1] for row in table(book["Model"])[1]}
    require(args["iterations"] == YEARS, f"{name}: {args}")
    return book


def opened_by_libreoffice(path, directory):
    """The workbook as LibreOffice reads and writes it; None if LibreOffice is not installed."""
    if shutil.which("soffice") is None:
        return None
    profile = f"-env:UserInstallation={(directory / 'libreoffice').as_uri()}"
    run("soffice", profile, "--headless", "--convert-to", "xlsx", "--outdir", directory / "opened", path)
    return directory / "opened" / path.name


def check(forge, name, directory, checks):
    envelope = json.loads((ROOT / f"examples/{name}.json").read_text())
    envelope["args"]["iterations"] = YEARS
    envelope["about"] = {"title": "=1+1"}
    job = envelope["ctx"]["job_id"]
    (directory / "envelope.json").write_text(json.dumps(envelope))
    store = directory / "store"
    run(forge, "run", directory / "envelope.json", "--no-progress", "--out", store)
    paths = [directory / f"{name}-{number}.xlsx" for number in range(2)]
    for path, threads in zip(paths, "14"):
        run(forge, "report", store / "jobs" / job, "--xlsx", path, "--json", directory / "result.json", "--threads", threads)
    require(paths[0].read_bytes() == paths[1].read_bytes(), f"{name}: two workbooks differ")
    text = (directory / "result.json").read_text()
    result = json.loads(text)
    book = check_book(paths[0], name, result)
    require(str(book.properties.created) == "2000-01-01 00:00:00", f"{book.properties.created}")
    with zipfile.ZipFile(paths[0]) as archive:
        charts = [entry for entry in archive.namelist() if entry.startswith("xl/charts/chart")]
        require(all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist()), "an entry has a time")
    require(len(charts) == CHARTS[name], f"{name}: {charts}")
    checks.ok(f"{name}: {len(book.sheetnames)} sheets and {len(charts)} charts with the figures of result.json")
    if opened := opened_by_libreoffice(paths[0], directory):
        check_book(opened, name, json.loads(text, parse_float=Near))
        checks.ok(f"{name}: LibreOffice reads the same figures, to 14 digits")
    else:
        print(f"NOT CHECKED: {name} in LibreOffice, which is not installed")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    restart()
    checks = Checks()
    for name in SHEETS:
        with tempfile.TemporaryDirectory() as directory:
            check(forge, name, Path(directory), checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"workbook.py: {failure}")
