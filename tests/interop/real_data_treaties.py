"""The OpenQuake engine's five tests of reinsurance, as portfolios whose events are constant.

A test has policies with a deductible and a liability, treaties, and the cessions of its events. The
events' losses by policy are no part of it: they follow from a hazard model. In the first test each
event strikes one policy, which the fractions of the cessions show. In the others the claims are
those that yield the stated claim and cessions before limits; what the limits, the layers and the
retention make of them is then compared.

Each event is a group that occurs once a year, and `forge explain` states what each treaty pays for
it. The portfolios are of two kinds:

shares  a policy's claim is divided into lines: what each proportional treaty takes, and the rest.
        A proportional treaty is a layer from 0 to its limit over its lines, so that it limits the
        sum of several policies' cessions. Layers by policy see the rest, as those of OpenQuake do,
        which do not see what a proportional treaty leaves above its limit.
quotas  a policy is a line, and a proportional treaty a quota share of each policy with a limit by
        event. That is the same where an event exceeds the limit with one policy at most.
"""

import csv
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from tools import require, run

# Folder of the tests in the package, up to their number.
REINSURANCE = "openquake/qa_tests_data/event_based_risk/reinsurance_"
# Most groups and components of a portfolio.
MOST_GROUPS, MOST_COMPONENTS = 32, 64
DECIMALS = 4
# Figures are stated with six digits, and are below 10,000.
CENT = 0.01
# Columns that are no cession. What a treaty leaves above its limit is the prefix and its name.
RETENTION, CLAIM, OVERSPILL = "retention", "claim", "overspill_"


@dataclass
class Treaty:
    """`kind` is prop, wxlr (by policy) or catxl (of all policies); the layer ends at `limit`."""

    name: str
    kind: str
    deductible: float
    limit: float


@dataclass
class Policy:
    name: str
    liability: float
    deductible: float
    # By treaty: the ceded fraction, or whether the treaty applies.
    fractions: dict

    @property
    def largest_claim(self):
        return self.liability - self.deductible

    def ceded_fraction(self, treaties):
        return sum(self.fractions[treaty.name] for treaty in treaties if treaty.kind == "prop")

    def catastrophes(self, treaties):
        """The names of the layers that its retention is part of."""
        return tuple(treaty.name for treaty in treaties if treaty.kind == "catxl" and self.fractions[treaty.name])


def read_model(directory, name):
    """The treaties and policies of a reinsurance model."""
    model = ElementTree.parse(directory / name)
    space = {"nrml": "http://openquake.org/xmlns/nrml/0.5"}
    treaties = []
    for field in model.findall(".//nrml:field", space):
        kind = field.get("type", "prop")
        limit = field.get("max_cession_event" if kind == "prop" else "limit")
        treaties.append(Treaty(field.get("input"), kind, float(field.get("deductible", 0)), float(limit)))
    policies = []
    for row in read_rows(directory / model.findtext(".//nrml:policies", namespaces=space)):
        fractions = {treaty.name: float(row[treaty.name]) for treaty in treaties}
        policies.append(Policy(row["policy"], float(row["liability"]), float(row["deductible"]), fractions))
    return treaties, policies


def read_rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def read_expected(path, **wanted):
    """Rows of numbers, of the columns that have a wanted value."""
    rows = [{name: float(value) for name, value in row.items()} for row in read_rows(path)]
    return [row for row in rows if all(row[name] in values for name, values in wanted.items())]


def claims_of_one_policy(rows, treaties, policies):
    """Claims by policy of events that strike one policy each."""
    first = treaties[0].name
    claims = []
    for row in rows:
        fraction = row[first] / row[CLAIM]
        struck = [policy for policy in policies if abs(policy.fractions[first] - fraction) < 1e-4]
        require(len(struck) == 1, f"event {row['event_id']:.0f} strikes {len(struck)} policies")
        claims.append({struck[0].name: row[CLAIM]})
    return claims


def solve(matrix, right):
    """Solves linear equations by elimination with pivots."""
    rows = [[*row, value] for row, value in zip(matrix, right)]
    for at in range(len(rows)):
        pivot = max(range(at, len(rows)), key=lambda index: abs(rows[index][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        require(abs(rows[at][at]) > 1e-9, "the claims do not follow from the cessions")
        for index in range(len(rows)):
            if index != at:
                factor = rows[index][at] / rows[at][at]
                rows[index] = [value - factor * other for value, other in zip(rows[index], rows[at])]
    return [row[-1] / row[at] for at, row in enumerate(rows)]


def claims_that_yield(row, treaties, policies):
    """Claims by policy that yield an event's claim, proportional cessions and layers by policy.

    Sum and cessions are linear in the claims. With one policy more than equations, the second
    policy's claim is varied until the layers by policy pay what is stated. With fewer policies,
    what the layers pay follows.
    """
    proportional = [treaty for treaty in treaties if treaty.kind == "prop"]
    layers = [treaty for treaty in treaties if treaty.kind == "wxlr"]
    equations = [([1.0] * len(policies), row[CLAIM])]
    for treaty in proportional:
        stated = row[treaty.name] + row.get(OVERSPILL + treaty.name, 0.0)
        equations.append(([policy.fractions[treaty.name] for policy in policies], stated))

    def claims(varied):
        chosen = [([float(at == 1) for at in range(len(policies))], varied)]
        system = (equations + chosen)[: len(policies)]
        return solve(*zip(*system))

    def distance(varied):
        amounts = claims(varied)
        outside = sum(max(-amount, amount - policy.largest_claim, 0.0) for policy, amount in zip(policies, amounts))
        paid = 0.0
        for policy, amount in zip(policies, amounts):
            kept = amount * (1 - policy.ceded_fraction(treaties))
            for layer in layers:
                if policy.fractions[layer.name]:
                    paid += min(max(kept - layer.deductible, 0.0), layer.limit - layer.deductible)
        return outside + abs(paid - sum(row[layer.name] for layer in layers))

    if len(policies) <= len(equations):
        return dict(zip((policy.name for policy in policies), claims(0.0)))
    low, high = 0.0, policies[1].largest_claim
    while high - low > 1e-7:
        step = (high - low) / 50
        best = min((low + at * step for at in range(51)), key=distance)
        low, high = best - 2 * step, best + 2 * step
    require(distance(best) < 0.1, f"no claims yield the cessions of {row}: {distance(best)} away")
    bounded = (min(max(amount, 0.0), policy.largest_claim) for policy, amount in zip(policies, claims(best)))
    return {policy.name: amount for policy, amount in zip(policies, bounded) if round(amount, DECIMALS) > 0}


def component(policy, claim, line, share):
    """A part of a policy's claim. A loss beyond the liability yields the largest claim."""
    loss = claim + policy.deductible if claim < policy.largest_claim else 2 * policy.liability
    return {
        "line": line,
        "severity": {"constant": round(loss, DECIMALS)},
        "limit": policy.largest_claim,
        "share": round(share, 6),
        **({"deductible": policy.deductible} if policy.deductible else {}),
    }


def layer(name, step, lines, treaty):
    """A layer over lines. Its name is that of the treaty, a bar and what makes it unique."""
    return {
        "name": f"{treaty.name}|{name}",
        "kind": "occurrence_xl",
        "step": step,
        "covers": lines,
        "attachment": treaty.deductible,
        "limit": treaty.limit - treaty.deductible,
    }


def rest_line(policy):
    return f"{policy.name} rest"


def share_line(treaty, catastrophes):
    return " ".join([treaty.name, "of", *(catastrophes or ["others"])])


def portfolio_of_shares(treaties, policies):
    """Lines, treaties, and a function from a policy and its claim to components."""
    groups = sorted({policy.catastrophes(treaties) for policy in policies})
    proportional = [treaty for treaty in treaties if treaty.kind == "prop"]
    shares = {
        share_line(treaty, group): (treaty, group)
        for treaty in proportional
        for group in groups
        if any(policy.fractions[treaty.name] and policy.catastrophes(treaties) == group for policy in policies)
    }
    covers = [layer(line, 1, [line], treaty) for line, (treaty, _) in shares.items()]
    for step, treaty in enumerate((treaty for treaty in treaties if treaty.kind != "prop"), 2):
        covered = [policy for policy in policies if policy.fractions[treaty.name]]
        if treaty.kind == "wxlr":
            covers += [layer(policy.name, step, [rest_line(policy)], treaty) for policy in covered]
        else:
            lines = [rest_line(policy) for policy in covered]
            lines += [line for line, (_, group) in shares.items() if treaty.name in group]
            covers.append(layer("all", step, lines, treaty))

    def components(policy, claim):
        yield component(policy, claim, rest_line(policy), 1 - policy.ceded_fraction(treaties))
        for treaty in proportional:
            if fraction := policy.fractions[treaty.name]:
                yield component(policy, claim, share_line(treaty, policy.catastrophes(treaties)), fraction)

    return [*map(rest_line, policies), *shares], covers, components


def portfolio_of_quotas(treaties, policies):
    """The same with quota shares."""
    covers = []
    step = 1
    for treaty in treaties:
        covered = [policy for policy in policies if policy.fractions[treaty.name]]
        if treaty.kind == "prop":
            covers += [
                {
                    "name": f"{treaty.name}|{policy.name}",
                    "kind": "quota_share",
                    "covers": [policy.name],
                    "cession": policy.fractions[treaty.name],
                    "event_limit": treaty.limit,
                }
                for policy in covered
            ]
        else:
            step += 1
            lines = [[policy.name] for policy in covered] if treaty.kind == "wxlr" else [[policy.name for policy in covered]]
            covers += [layer(covered[0], step, covered, treaty) for covered in lines]

    def components(policy, claim):
        yield component(policy, claim, policy.name, 1.0)

    return [policy.name for policy in policies], covers, components


def execute(forge, directory, name, portfolio, policies, claims):
    """The gross amount, the net amount and the payments by treaty of each event."""
    lines, covers, components = portfolio
    by_name = {policy.name: policy for policy in policies}
    strikes = [[part for policy, claim in event.items() for part in components(by_name[policy], claim)] for event in claims]
    size = min(MOST_GROUPS, MOST_COMPONENTS // max(map(len, strikes)))
    events = []
    for start in range(0, len(strikes), size):
        groups = [
            {"name": f"event {number}", "count": {"constant": 1}, "strikes": parts}
            for number, parts in enumerate(strikes[start : start + size])
        ]
        # A treaty has to cover a line that is struck.
        struck = {strike["line"] for group in groups for strike in group["strikes"]}
        treaties = [dict(treaty, covers=[line for line in treaty["covers"] if line in struck]) for treaty in covers]
        treaties = [treaty for treaty in treaties if treaty["covers"]]
        args = {"iterations": 1, "decimals": DECIMALS, "lines": lines, "groups": groups, "treaties": treaties}
        job = f"{name}-{start}"
        envelope = {"ctx": {"job_id": job}, "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args}
        path = directory / f"{job}.json"
        path.write_text(json.dumps(envelope))
        run(forge, "run", path, "--no-progress", "--out", directory / "store")
        view = json.loads(run(forge, "explain", directory / "store/jobs" / job, "--year", "0", "--format", "json"))
        figures = [{CLAIM: 0.0, RETENTION: 0.0} for _ in groups]
        for row in view["rows"]:
            event = figures[int(row["group"].removeprefix("event "))]
            event[CLAIM] += row["gross"]
            event[RETENTION] += row["net"]
            for treaty, ceded in row.get("ceded_by_treaty", {}).items():
                treaty = treaty.split("|")[0]
                event[treaty] = event.get(treaty, 0.0) + ceded
        events += figures
    return events


def limits_a_sum(treaties, policies, claims):
    """The proportional treaties that limit the sum of several policies' cessions of an event."""
    names = []
    for treaty in treaties:
        for event in claims:
            ceded = [event.get(policy.name, 0.0) * policy.fractions[treaty.name] for policy in policies]
            if treaty.kind == "prop" and max(ceded) < sum(ceded) > treaty.limit and treaty.name not in names:
                names.append(treaty.name)
    return names


class CessionComparison:
    """Compares the events of OpenQuake's tests with those of portfolios."""

    def __init__(self, forge, directory, checks):
        self.forge = forge
        self.directory = directory
        self.checks = checks

    def compare(self, name, model, rows, claims, by_event=True):
        """Rows of expected figures, and the claims by policy of the same events. If `by_event` is
        false, each column of the rows is in an order of its own."""
        treaties, policies = model
        kinds = {"shares": portfolio_of_shares}
        if sums := limits_a_sum(treaties, policies, claims):
            print(
                f"NOT EXPRESSIBLE: {name} with quota shares, because {', '.join(sums)} limits the sum of several policies'"
                " cessions of an event, and an event limit is of one fraction of all covered lines"
            )
        elif any(treaty.kind == "prop" for treaty in treaties):
            kinds["quotas"] = portfolio_of_quotas
        for kind, portfolio in kinds.items():
            job = "-".join([*name.split(), kind])
            events = execute(self.forge, self.directory, job, portfolio(treaties, policies), policies, claims)
            largest = 0.0
            print(f"{name}, {len(rows)} events, as {kind}\n  {'sum of':<20} {'expected':>14} {'found':>14} {'largest difference':>20}")
            for column in [CLAIM, RETENTION, *(treaty.name for treaty in treaties)]:
                expected, found = ([event.get(column, 0.0) for event in figures] for figures in (rows, events))
                if not by_event:
                    expected, found = sorted(expected), sorted(found)
                difference = max(abs(one - other) for one, other in zip(expected, found, strict=True))
                largest = max(largest, difference)
                print(f"  {column:<20} {sum(expected):>14,.3f} {sum(found):>14,.3f} {difference:>20.4f}")
                require(difference <= CENT, f"{name}, {kind}: {column} is {found}, expected {expected}")
            self.checks.ok(f"OpenQuake {name}: {len(rows)} events as {kind}, within {largest:.4f}")


def check_reinsurance(forge, directory, prefix, checks):
    """`prefix` is the path of the tests' folders up to their number."""
    comparison = CessionComparison(forge, directory, checks)

    def folder(number):
        return prefix.with_name(f"{prefix.name}{number}")

    first = folder(1)
    rows = read_expected(first / "expected/reinsurance-risk_by_event.csv")
    claims = claims_of_one_policy(rows, *read_model(first, "reinsurance.xml"))
    for name, model, expected in [
        ("1 without treaties", "no_reinsurance.xml", "no_reinsurance-risk_by_event.csv"),
        ("1 proportional", "reinsurance_prop.xml", "reinsurance-risk_by_event_prop.csv"),
        ("1 by policy", "reinsurance_np.xml", "reinsurance-risk_by_event_np.csv"),
        ("1 both", "reinsurance.xml", "reinsurance-risk_by_event.csv"),
        ("1 and catastrophes", "reinsurance2.xml", "reinsurance-risk_by_event2.csv"),
    ]:
        comparison.compare(name, read_model(first, model), read_expected(first / "expected" / expected), claims)

    # One of two realisations has two events, so its rows of quantiles are its events.
    model = read_model(folder(2), "reinsurance2.xml")
    rows = read_expected(folder(2) / "expected/reinsurance-aggcurves.csv", rlz_id=[1], return_period=[100, 200])
    comparison.compare("2", model, rows, [claims_that_yield(row, *model) for row in rows])
    print("NOT COMPARED: realisation 0 of test 2, of which only quantiles of each column are stated, and not the events")

    model = read_model(folder(3), "reinsurance1.xml")
    rows = read_expected(folder(3) / "expected/reinsurance-risk_by_event.csv")
    comparison.compare("3", model, rows, [claims_that_yield(row, *model) for row in rows])

    model = read_model(folder(4), "reinsurance1.xml")
    rows = read_expected(folder(4) / "expected/reinsurance-aggcurves.csv")
    comparison.compare("4", model, rows, [claims_that_yield(row, *model) for row in rows], by_event=False)
    print("NOT COMPARED: reinsurance-risk_by_event.csv of test 4, whose cessions follow from other policies than its own")

    # No treaty, so the claims may be those of any policy.
    rows = read_expected(folder(5) / "expected/reinsurance-aggcurves.csv")
    for number in [1, 2]:
        model = read_model(folder(5), f"reinsurance_{number}.xml")
        comparison.compare(f"5 job {number}", model, rows, [{model[1][0].name: row[CLAIM]} for row in rows])
