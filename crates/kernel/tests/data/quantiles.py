"""Writes quantiles.json: quantiles of severity laws by arbitrary precision, at draws in all octaves.

Run with mpmath installed: python3 quantiles.py > quantiles.json. Each law is given as args of
risk.compound.v1, the quantiles in units of the args. Half of the draws lie where a quadratic through
the nodes of a segment is worst, in the first segment of their octave; the others anywhere.
"""

import json
import random
import sys

from mpmath import betainc, erfc, exp, expm1, gammainc, log, log1p, mp, mpf, sqrt


def root(ln_tail, target, start):
    """The x at which a tail probability, whose logarithm in ln x is `ln_tail`, is e^target."""
    low, high = mpf(start), mpf(start)
    is_rising = ln_tail(low + 1) > ln_tail(low - 1)
    below = lambda y: (ln_tail(y) < target) == is_rising
    step = mpf(1)
    while not below(low):
        low, step = low - step, 2 * step
    step = mpf(1)
    while below(high):
        high, step = high + step, 2 * step
    f_low, f_high = ln_tail(low) - target, ln_tail(high) - target
    for _ in range(400):
        if high - low < mpf(10) ** -22 * max(1, abs(high)):
            break
        # Illinois, with a bisection now and then.
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        if not low < middle < high or _ % 5 == 4:
            middle = (low + high) / 2
        f = ln_tail(middle) - target
        if (f < 0) == is_rising:
            low, f_low, f_high = middle, f, f_high / 2
        else:
            high, f_high, f_low = middle, f, f_low / 2
    return exp((low + high) / 2)


def gamma(shape):
    def quantile(upper, t):
        if upper:
            return root(lambda y: log(gammainc(shape, exp(y), regularized=True)), log(t), log(mpf(shape)))
        return root(lambda y: log(gammainc(shape, 0, exp(y), regularized=True)), log(t), log(mpf(shape)))
    return quantile


def beta(a, b):
    def lower(a, b, t):
        tail = lambda y: log(betainc(a, b, 0, exp(y), regularized=True)) if y < 0 else y
        return root(tail, log(t), log(mpf(a) / (a + b)) - mpf(1) / 1000)

    return lambda upper, t: 1 - lower(b, a, t) if upper else lower(a, b, t)


def inverse_gaussian(shape):
    phi = mpf(shape)
    normal = lambda z: erfc(-z / sqrt(mpf(2))) / 2

    def tail(upper, x):
        root_ = sqrt(phi / x)
        reflected = exp(2 * phi) * normal(-root_ * (x + 1))
        return normal(-root_ * (x - 1)) - reflected if upper else normal(root_ * (x - 1)) + reflected

    return lambda upper, t: root(lambda y: log(tail(upper, exp(y))), log(t), mpf(0))


def of_exponential(amount):
    return lambda upper, t: amount(-log(t) if upper else -log1p(-t))


def laws():
    for mean in (1, 1e6):
        yield {"exponential": {"mean": mean}}, of_exponential(lambda e, m=mpf(mean): m * e)
    for shape in (0.1, 0.1428, 0.249, 0.251, 1, 7.5, 1000):
        law = {"weibull": {"shape": shape, "scale": 1e6}}
        yield law, of_exponential(lambda e, s=mpf(shape): exp(log(e) / s) * mpf(10) ** 6)
    for alpha in (0.1, 0.12, 0.249, 0.251, 1.6, 1000):
        law = {"pareto": {"threshold": 100, "alpha": alpha}}
        yield law, of_exponential(lambda e, a=mpf(alpha): 100 * exp(e / a))
        law = {"lomax": {"alpha": alpha, "scale": 1e5}}
        yield law, of_exponential(lambda e, a=mpf(alpha): 10**5 * expm1(e / a))
    for xi in (-5, -4.01, -3.99, -0.5, 1e-12, 0.55, 3.99, 9, 10):
        law = {"gpd": {"threshold": 10, "scale": 1e5, "xi": xi}}
        yield law, of_exponential(lambda e, x=mpf(xi): 10 + 10**5 * expm1(e * x) / x)
    for alpha, gamma_ in ((0.1, 1), (1, 0.1), (1000, 0.1), (0.5, 0.5), (3, 2), (1, 1000), (0.125, 900),
                          (1, 0.25), (1, 0.1112)):
        law = {"burr": {"alpha": alpha, "scale": 1e5, "gamma": gamma_}}
        amount = lambda e, a=mpf(alpha), g=mpf(gamma_): 10**5 * exp(log(expm1(e / a)) / g)
        yield law, of_exponential(amount)
    for shape in (0.05, 0.051, 0.1, 0.12, 0.249, 0.251, 1, 2.5, 100, 10_000, 1e6):
        quantile = gamma(shape)
        scale = 1e6 if shape < 1000 else 1e6 / shape
        yield ({"gamma": {"shape": shape, "scale": scale}},
               lambda upper, t, q=quantile, s=mpf(scale): s * q(upper, t))
    for a, b in ((0.05, 0.05), (0.05, 3), (3, 0.05), (0.12, 0.3), (0.26, 2), (1, 1), (2.5, 40), (300, 700)):
        quantile = beta(a, b)
        yield ({"beta": {"a": a, "b": b, "scale": 1e6}},
               lambda upper, t, q=quantile: 10**6 * q(upper, t))
    for shape in (1e-3, 0.1, 1, 50, 1e6):
        quantile = inverse_gaussian(shape)
        yield ({"inverse_gaussian": {"mean": 1000, "lambda": shape * 1000}},
               lambda upper, t, q=quantile: 1000 * q(upper, t))


def draws(generator):
    """Triples of a draw, its half and its distance from the end, which is exact."""
    worst = 0.2113
    for rank in (0, 1, 2, 5, 9, 13, 18, 24, 30, 37, 44, 50, 56, 60, 62, 63):
        for upper in (False, True):
            for number, bits in enumerate((6, 7, 8, None)):
                f = generator.random() if bits is None else worst / 2**bits
                if number % 2 == int(upper) and bits is not None:
                    continue
                w = int(mpf(2) ** rank * (1 + mpf(f))) | 1
                distance = (w - 1) // 2
                yield 2**64 - 1 - distance if upper else distance, upper, mpf(w) / mpf(2) ** 65


def main():
    mp.dps = 50
    generator = random.Random(5)
    rows = []
    for law, quantile in laws():
        points = [[draw, float(quantile(upper, t))] for draw, upper, t in draws(generator)]
        rows.append(json.dumps({"severity": law, "quantiles": points}))
        print(rows[-1][:70], file=sys.stderr)
    print("[\n" + ",\n".join(rows) + "\n]")


main()
