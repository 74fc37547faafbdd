#!/usr/bin/env python3
"""The example portfolio of risk.compound.v1 written by hand in NumPy, vectorised over years.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install numpy==2.3.5
    taskset -c 0 /tmp/peers/bin/python benches/peers/portfolio_numpy.py --iterations 1000000

Prints the nanoseconds per year of each batch's median, and the mean of the net total, which shows that the
model is the same. Compare with `cargo bench -p forge-kernel -- portfolio` on the same machine.
"""

import argparse
import statistics
import time

import numpy as np

BATCH = 100_000  # Years in a batch: faster than 20,000.
BUCKETS = 1 << 20


def log_parameters(mean, cv):
    variance = np.log1p(cv * cv)
    return np.log(mean) - variance / 2, np.sqrt(variance)


def lognormal(rng, mean, cv, size):
    return rng.lognormal(*log_parameters(mean, cv), size)


def layer(amounts, limit, attachment):
    return np.clip(amounts - attachment, 0.0, limit)


def buckets(amounts, bits):
    """Buckets of a histogram with 2^bits in an octave: exponent and first bits of the fraction."""
    return np.maximum(amounts, 1.0).view(np.int64) - (1023 << 52) >> (52 - bits)


def negative_binomial(rng, mean, contagion, size):
    return rng.negative_binomial(1 / contagion, 1 / (1 + contagion * mean), size)


def simulate(rng, years, results):
    """Adds the figures of this many years to `results`, and returns the sum of the net totals."""
    by_year = lambda year, amounts: np.bincount(year, weights=amounts, minlength=years)
    numbers = np.arange(years)
    counts = negative_binomial(rng, 14, 0.08, years), negative_binomial(rng, 1.8, 0.35, years)
    index = lognormal(rng, 1.0, 0.04, years)
    motor = lognormal(rng, 42e6, 0.06, years)
    property_ = rng.gamma(1 / 0.0081, 18e6 * 0.0081, years)
    liability = lognormal(rng, 25e6, 0.12, years)
    annual = motor + property_ + liability

    year = np.repeat(numbers, counts[0])
    pick = rng.random(year.size)
    fire_year, crash_year, liability_year = year[pick < 0.5], year[(pick >= 0.5) & (pick < 0.8)], year[pick >= 0.8]
    fire = np.minimum(250e3 * (rng.pareto(1.6, fire_year.size) + 1), 20e6)
    crash = rng.lognormal(12.9, 1.1, crash_year.size)
    claim = 300e3 + 210e3 * ((1 - rng.random(liability_year.size)) ** -0.55 - 1) / 0.55
    claim = layer(claim * index[liability_year], 15e6, 100e3)
    large = [by_year(fire_year, fire), by_year(crash_year, crash), by_year(liability_year, claim)]
    property_, motor, liability = property_ + large[0], motor + large[1], liability + large[2]

    storm_year = np.repeat(numbers, counts[1])
    z = rng.standard_normal(storm_year.size)
    property_mu, property_sigma = log_parameters(9e6, 2.8)
    motor_mu, motor_sigma = log_parameters(1.2e6, 2.2)
    storm_property, storm_motor = np.exp(property_mu + property_sigma * z), np.exp(motor_mu + motor_sigma * z)
    storm = storm_property + storm_motor
    property_ += by_year(storm_year, storm_property)
    motor += by_year(storm_year, storm_motor)
    largest = np.zeros(years)
    for of_year, amounts in (fire_year, fire), (crash_year, crash), (liability_year, claim), (storm_year, storm):
        np.maximum.at(largest, of_year, amounts)

    risk_parts = layer(fire, 5e6, 2e6)
    ceded = [0.2 * motor, layer(by_year(fire_year, risk_parts), 15e6, 1e6)]
    subject = storm_property + 0.8 * storm_motor
    attached, paid = [(risk_parts, 5e6)], []
    for limit, attachment, capacity, placed in (20e6, 10e6, 60e6, 0.9), (40e6, 30e6, 80e6, 1.0):
        parts = layer(subject, limit, attachment)
        attached.append((parts, limit))
        paid.append(np.minimum(by_year(storm_year, parts), capacity))
        ceded.append(placed * paid[-1])
    gross = property_ + motor + liability
    after_first = gross - ceded[0] - ceded[1]
    after_second = after_first - ceded[2] - ceded[3]
    ceded.append(0.85 * layer(after_second, 25e6, 135e6))
    net = after_second - ceded[4]

    lines = [property_, motor, liability]
    coarse = [gross, *lines, after_first, after_second, *ceded]
    for name, amounts, bits in [("net", net, 10), ("largest", largest, 10)] + [(i, a, 8) for i, a in enumerate(coarse)]:
        histogram = np.bincount(buckets(100 * amounts, bits), minlength=54 << bits)
        results.append((name, amounts.sum(), amounts @ amounts, histogram))
    bucket = buckets(100 * net, 8)
    for amounts in lines + ceded:
        results.append(np.bincount(bucket, weights=amounts, minlength=54 << 8))
    for of_group, totals in (None, annual), (counts[0], sum(large)), (counts[1], by_year(storm_year, storm)):
        moments = (0, 0) if of_group is None else (of_group.sum(), of_group @ of_group)
        results.append((*moments, (totals == 0).sum(), totals.sum(), totals @ totals))
    for parts, limit in attached:
        results.append(((parts > 0).sum(), (parts == limit).sum()))
    for whole, limit, premium, number in (paid[0], 20e6, 0.9 * 2.6e6, 2), (paid[1], 40e6, 1.9e6, 1):
        reinstated = [layer(whole, limit, k * limit) for k in range(number)]
        price = premium * sum(reinstated) / limit
        results.append((*(r.sum() for r in reinstated), price.sum(), price @ price))
    return net.sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=1_000_000)
    iterations = parser.parse_args().iterations
    rng = np.random.Generator(np.random.SFC64(1))
    net, times = 0.0, []
    batches = max(1, iterations // BATCH)
    for _ in range(batches):
        start = time.process_time()
        net += simulate(rng, BATCH, [])
        times.append(time.process_time() - start)
    nanoseconds = statistics.median(times) / BATCH * 1e9
    print(f"{nanoseconds:.0f} ns a year, {1e3 / nanoseconds:.2f} M years/s; mean net {net / batches / BATCH:,.0f}")


if __name__ == "__main__":
    main()
