"""Exact laws of annual losses, and comparisons of a run's figures with them."""

import bisect
import itertools
import math

from tools import require

# A figure agrees within this many standard errors.
MOST_STANDARD_ERRORS = 4
# Relative width of a bucket of the histograms of the total and the largest occurrence, and of other
# amounts.
FINE, COARSE = 2**-10, 2**-8


class DiscreteLaw:
    """A law on ascending amounts. Figures of its tail are exact."""

    def __init__(self, amounts, cumulative):
        self.amounts = amounts
        self.cumulative = cumulative
        self.probabilities = [after - before for before, after in zip([0.0, *cumulative], cumulative)]
        self.mean = self.moment(lambda amount: amount)
        self.variance = self.moment(lambda amount: (amount - self.mean) ** 2)
        self.fourth_moment = self.moment(lambda amount: (amount - self.mean) ** 4)

    @classmethod
    def of_sample(cls, sample):
        """The law that draws one of the amounts."""
        ascending = sorted(sample)
        distinct = [amount for amount, _ in itertools.groupby(ascending)]
        return cls(distinct, [bisect.bisect_right(ascending, amount) / len(ascending) for amount in distinct])

    @classmethod
    def of_largest(cls, severity, generate):
        """The law of a year's largest loss; 0 without one. `generate` is the probability generating
        function of the number of losses."""
        start = [0.0] if severity.amounts[0] > 0 else []
        probabilities = [0.0] * len(start) + severity.cumulative
        return cls(start + severity.amounts, [generate(probability) for probability in probabilities])

    def moment(self, function):
        return math.fsum(probability * function(amount) for amount, probability in zip(self.amounts, self.probabilities))

    def below(self, amount):
        """Probability of less than an amount."""
        at = bisect.bisect_left(self.amounts, amount)
        return self.cumulative[at - 1] if at else 0.0

    def up_to(self, amount):
        at = bisect.bisect_right(self.amounts, amount)
        return self.cumulative[at - 1] if at else 0.0

    def quantile(self, level):
        return self.amounts[bisect.bisect_left(self.cumulative, level)]

    def tail(self, level):
        """Value at risk, tail value at risk, and the variance of the amounts beyond the former."""
        var = self.quantile(level)
        first = bisect.bisect_right(self.amounts, var)
        weights = [self.up_to(var) - level, *self.probabilities[first:]]
        amounts = [var, *self.amounts[first:]]
        mean = math.fsum(map(lambda weight, amount: weight * amount, weights, amounts)) / (1 - level)
        squares = math.fsum(weight * (amount - mean) ** 2 for weight, amount in zip(weights, amounts))
        return var, mean, squares / (1 - level)


def compound_poisson(mean_count, sample, step, end):
    """The law of a year's total by Panjer's recursion. Each loss is spread over the two multiples of
    `step` beside it so that its mean is kept."""
    severity = [0.0] * (math.ceil(max(sample) / step) + 1)
    for loss in sample:
        at, part = divmod(loss / step, 1)
        severity[int(at)] += (1 - part) / len(sample)
        if part:
            severity[int(at) + 1] += part / len(sample)
    terms = [(at, at * probability) for at, probability in enumerate(severity) if at and probability]
    probabilities = [math.exp(-mean_count * (1 - severity[0]))]
    for total in range(1, int(end / step)):
        recent = ((total - at, weight) for at, weight in itertools.takewhile(lambda term: term[0] <= total, terms))
        probabilities.append(mean_count / total * sum(weight * probabilities[index] for index, weight in recent))
    cumulative = list(itertools.accumulate(probabilities))
    require(1 - 1e-9 < cumulative[-1] < 1 + 1e-9, f"totals beyond {end} are not negligible")
    cumulative[-1] = 1.0
    return DiscreteLaw([at * step for at in range(len(cumulative))], cumulative)


class Comparison:
    """Prints figures of a run beside the expected ones. One that differs fails the test."""

    def __init__(self, title, years):
        self.years = years
        self.count = 0
        print(f"{title}\n  {'figure':<34} {'expected':>18} {'found':>18} {'distance':>9}")

    def row(self, figure, expected, found, distance, agrees):
        self.count += 1
        print(f"  {figure:<34} {expected:>18,.4f} {found:>18,.4f} {distance:>+9.2f}")
        require(agrees, f"{figure} is {found}, expected {expected}: {distance:+.2f} standard errors")

    def estimate(self, figure, expected, found, std_error, resolution=0.0):
        """A mean of independent years, or a function of one. The resolution is an amount."""
        difference = found - expected
        beyond = math.copysign(max(abs(difference) - resolution, 0.0), difference)
        distance = beyond / std_error
        self.row(figure, expected, found, distance, abs(distance) <= MOST_STANDARD_ERRORS)

    def std_dev(self, figure, variance, fourth_moment, found):
        std_error = math.sqrt((fourth_moment - variance**2) / self.years / (4 * variance))
        self.estimate(figure, math.sqrt(variance), found, std_error)

    def rank(self, figure, level, expected, found, below, up_to):
        """A quantile, by the probabilities of less than it and of up to it in the exact law."""
        std_error = math.sqrt(level * (1 - level) / self.years)
        nearest = min(max(level, below), up_to)
        distance = (nearest - level) / std_error
        self.row(figure, expected, found, distance, abs(distance) <= MOST_STANDARD_ERRORS)

    def var(self, figure, law, level, found, width):
        """A quantile of a histogram with buckets of this relative width."""
        below, up_to = law.below(found * (1 - width)), law.up_to(found * (1 + width))
        self.rank(figure, level, law.quantile(level), found, below, up_to)

    def tvar(self, figure, law, level, found, width):
        var, mean, variance = law.tail(level)
        std_error = math.sqrt((variance + level * (mean - var) ** 2) / (self.years * (1 - level)))
        self.estimate(figure, mean, found, std_error, resolution=width / 2 * mean)
