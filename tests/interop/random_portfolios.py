"""Random args of risk.compound.v1 for compare.py: valid ones, of all families."""


def millionths(rng, low=0.01, high=1.0):
    return round(rng.uniform(low, high), rng.choice([1, 2, 6])) or 1


def amount(rng, low=1, high=50_000):
    return round(rng.uniform(low, high), 2)


def chosen(rng, options, share=0.5):
    """A random part of optional keys; values are drawn only where they are needed."""
    return {key: draw() for key, draw in options.items() if rng.random() < share}


def subset(rng, names):
    return rng.sample(names, rng.randint(1, len(names)))


# --- Counts and severities


def simple_count(rng):
    mean = rng.uniform(0.01, 4)
    return rng.choice([
        {"poisson": mean}, {"poisson": {"mean": mean}}, {"bernoulli": rng.random()}, {"geometric": mean},
        {"geometric": {"mean": mean}}, {"binomial": {"trials": rng.randint(1, 40), "probability": rng.random() / 8}},
        {"negative_binomial": {"mean": mean, "contagion": rng.choice([0, 0.5, rng.uniform(0, 3)])}},
        {"negative_binomial": {"r": rng.uniform(0.1, 5), "beta": rng.uniform(0, 1.5)}},
        {"discrete": {"probabilities": [1] + [rng.choice([0, 1, rng.random()]) for _ in range(rng.randint(0, 6))]}},
    ])


def count(rng):
    if rng.random() < 0.1:
        return {"constant": rng.randint(0, 4)}
    if rng.random() < 0.15:
        of = rng.choice([{"poisson": 1.5}, {"binomial": {"trials": 6, "probability": 0.25}}, {"geometric": 2}])
        return {"zero_modified": {"p0": rng.choice([0, 0.5, rng.random()]), "of": of}}
    return simple_count(rng)


def listed_amount(rng):
    """An amount that may be 0, and is not always a whole number of minor units."""
    return rng.choice([0, amount(rng, 0.01, 100), amount(rng), rng.uniform(0, 50_000)])


def discrete_severity(rng):
    amounts = sorted({listed_amount(rng) for _ in range(rng.choice([1, 4, 16, 30]))})
    probabilities = [rng.choice([0, 1, rng.random()]) for _ in amounts]
    probabilities[rng.randrange(len(amounts))] = rng.choice([1, 0.3, 1e-25])
    return {"discrete": {"amounts": amounts, "probabilities": probabilities}}


def empirical_severity(rng):
    distinct = [listed_amount(rng) for _ in range(rng.choice([1, 5, 12, 300]))]
    return {"empirical": {"sample": rng.choices(distinct, k=rng.choice([1, 2, 16, 17, 400]))}}


def piecewise_severity(rng):
    inner = {rng.choice([0.25, 0.5, 1e-22, rng.random(), rng.random() / 1000]) for _ in range(rng.choice([0, 1, 4, 40]))}
    probabilities = sorted({0, 1} | inner)
    amounts = sorted(rng.choices([listed_amount(rng) for _ in probabilities], k=len(probabilities)))
    return {"piecewise": {"probabilities": probabilities, "amounts": amounts}}


def bounded_severity(rng):
    scale = amount(rng)
    return rng.choice([
        {"beta": {"a": rng.uniform(0.4, 4), "b": rng.uniform(0.4, 6), "scale": scale}},
        {"beta": {"mean": scale * rng.uniform(0.2, 0.5), "cv": rng.uniform(0.3, 0.7), "scale": scale}},
    ])


def severity(rng):
    if rng.random() < 0.04:
        return bounded_severity(rng)
    if rng.random() < 0.3:
        return rng.choice([discrete_severity, empirical_severity, piecewise_severity])(rng)
    mean, shape = amount(rng), rng.uniform(0.4, 4)
    return rng.choice([
        {"constant": amount(rng)}, {"lognormal": {"mean": mean, "cv": rng.uniform(0.1, 6)}},
        {"lognormal": {"mu": rng.uniform(2, 9), "sigma": rng.uniform(0.1, 2)}}, {"exponential": mean},
        {"exponential": {"mean": mean}}, {"weibull": {"shape": shape, "scale": mean}},
        {"pareto": {"threshold": mean, "alpha": rng.choice([1, 2, shape])}},
        {"lomax": {"alpha": rng.choice([1, shape]), "scale": mean}},
        {"gpd": {"threshold": amount(rng, 0, 100), "scale": mean, "xi": rng.choice([0, -0.5, 0.25, rng.random()])}},
        {"burr": {"alpha": shape, "scale": mean, "gamma": rng.uniform(0.6, 3)}},
        {"weibull": {"mean": mean, "cv": rng.uniform(0.3, 4)}}, {"lomax": {"mean": mean, "cv": rng.uniform(1.01, 9)}},
        {"gpd": {"threshold": mean / 2, "mean": mean, "cv": rng.choice([0.5, rng.uniform(0.2, 3)])}},
        {"uniform": {"mean": mean, "cv": rng.uniform(0.01, 0.57)}},
        {"uniform": {"low": 0, "high": mean}}, {"normal": {"mean": mean, "cv": rng.uniform(0.05, 2)}},
        {"normal": {"mean": mean, "std_dev": amount(rng)}}, {"gamma": {"shape": shape, "scale": mean}},
        {"gamma": {"mean": mean, "cv": rng.uniform(0.4, 1.5)}},
        {"inverse_gaussian": {"mean": mean, "cv": rng.uniform(0.2, 4)}},
        {"inverse_gaussian": {"mean": mean, "lambda": mean * rng.uniform(0.1, 9)}},
    ])


def index(rng, number):
    law = rng.choice([{"lognormal": {"mean": 1.05, "cv": rng.uniform(0.01, 0.3)}},
                      {"normal": {"mean": 1, "std_dev": 0.1}}, {"uniform": {"low": 0.9, "high": 1.3}},
                      {"constant": rng.choice([1, 1.05, rng.random()])}, {"empirical": {"sample": [0, 1.1, rng.random()]}},
                      {"discrete": {"amounts": [0.9, 1, rng.uniform(1, 2)], "probabilities": [0.25, 0.5, rng.random()]}},
                      {"piecewise": {"amounts": [0.5, 1, 1.7], "probabilities": [0, rng.uniform(0.1, 0.9), 1]}}])
    return {"name": f"index {number}", **law}


# --- Groups and treaties


def terms(rng, indices):
    out = chosen(rng, {"limit": lambda: amount(rng), "share": lambda: millionths(rng)})
    if rng.random() < 0.5:
        out[rng.choice(["deductible", "franchise"])] = amount(rng, 1, 2_000)
    if indices and rng.random() < 0.5:
        out["index"] = rng.choice(indices)
    return out


def event_amounts(rng, count, width):
    """The losses of events on each line. Totals repeat: exactly, and after rounding to minor units."""
    rows = []
    for _ in range(count):
        row = [rng.choice([0, amount(rng, 1, 9), amount(rng), rng.uniform(1, 50_000)]) for _ in range(width)]
        if rows and rng.random() < 0.3:
            row = rng.sample(rng.choice(rows), width)
        rows.append(row)
    return [list(amounts) for amounts in zip(*rows)]


def event_loss_table(rng, lines):
    """Events, of which some have the rate 0, and some no loss."""
    count = rng.choice([1, 2, rng.randint(3, 16), rng.randint(17, 40)])
    repeated = rng.uniform(0.01, 4) / count
    rates = [rng.choice([0, repeated, rng.uniform(0.001, 4) / count, 1e-12, 10 ** rng.uniform(-11, -1)])
             for _ in range(count)]
    rates[rng.randrange(count)] = rng.choice([repeated, 0.25, 1e-9])
    struck = rng.sample(lines, rng.randint(1, min(3, len(lines))))
    losses = [{"line": line, "amounts": amounts}
              for line, amounts in zip(struck, event_amounts(rng, count, len(struck)))]
    return {"rates": rates, "losses": losses, **chosen(rng, {"frequency": lambda: rng.choice([
        "poisson", {"negative_binomial": {"contagion": rng.choice([0, 0.5, rng.uniform(0, 3)])}}])}, share=0.7)}


def group(rng, number, lines, indices):
    form = rng.choice(["annual", "claims", "claims", "strikes", "events"])
    if form == "events":
        return {"name": f"group {number}", form: event_loss_table(rng, lines)}
    out = {"name": f"group {number}", form: []}
    if form != "annual":
        out["count"] = count(rng)
    for position in range(rng.randint(1, 3)):
        component = {"line": rng.choice(lines), "amount" if form == "annual" else "severity": severity(rng)}
        if form == "annual":
            component.update({"index": rng.choice(indices)} if indices and rng.random() < 0.5 else {})
        else:
            component.update(terms(rng, indices))
        if form == "claims" and rng.random() < 0.7:
            component["weight"] = rng.choice([1, 2, rng.uniform(0.1, 3)])
        if form == "strikes" and position > 0 and rng.random() < 0.5:
            component["rank"] = "same"
        out[form].append(component)
    return out


def components_of(item):
    """The components of a group."""
    if "events" in item:
        return item["events"]["losses"]
    return next(item[form] for form in ("annual", "claims", "strikes") if form in item)


def sliding_scale(rng):
    ratios = sorted({round(rng.uniform(0, 2), 3) for _ in range(rng.randint(2, 5))} | {0.5, 0.7})
    return [{"loss_ratio": ratio, "rate": millionths(rng)} for ratio in ratios]


def commissions(rng, treaty):
    """A treaty with a premium may have a profit commission."""
    if "premium" in treaty and "attachment_ratio" not in treaty and "limit_ratio" not in treaty and rng.random() < 0.4:
        treaty["profit_commission"] = {"share": millionths(rng), **chosen(rng, {"margin": lambda: millionths(rng)})}
        if treaty["kind"] == "quota_share" and rng.random() < 0.7:
            treaty["commission"] = sliding_scale(rng)
    return treaty


def quota_share(rng):
    return {"kind": "quota_share", "cession": millionths(rng, 0.01, 0.3),
            **chosen(rng, {"event_limit": lambda: amount(rng), "premium": lambda: amount(rng), "commission": lambda: millionths(rng)})}


def occurrence_xl(rng):
    out = {"kind": "occurrence_xl", "attachment": rng.choice([0, amount(rng)]), **chosen(rng, {
        "limit": lambda: amount(rng), "aad": lambda: amount(rng), "aal": lambda: amount(rng, 1_000, 100_000),
        "premium": lambda: amount(rng), "cession": lambda: millionths(rng), "placed": lambda: millionths(rng)})}
    if "limit" in out and rng.random() < 0.6:
        out["reinstatements"] = [rng.choice([0, 1, 0.5, 1.25]) for _ in range(rng.randint(0, 3))]
    return out


def aggregate_xl(rng):
    premium = {"premium": amount(rng, 1_000)}
    return rng.choice([
        {"attachment": amount(rng), "limit": amount(rng)}, {"attachment": 0}, {"attachment": amount(rng), **premium},
        {"attachment_ratio": 0.9, "limit_ratio": millionths(rng), **premium},
        {"attachment": amount(rng), "limit_ratio": 1.5, **premium},
    ]) | {"kind": "aggregate_xl", "placed": millionths(rng)}


def treaties(rng, lines_of, covered):
    """Treaties whose steps ascend, aggregate XL treaties in the last ones."""
    out = []
    for step in range(1, rng.randint(1, 4)):
        for _ in range(rng.randint(1, 2)):
            treaty = rng.choice([quota_share, occurrence_xl])(rng) | {"step": step, "covers": subset(rng, covered)}
            out.append(treaty)
            if rng.random() < 0.3:
                among = subset(rng, list(lines_of))
                # A treaty that covers nothing is invalid.
                if any(line in treaty["covers"] for group in among for line in lines_of[group]):
                    treaty["groups"] = among
    for step in (5, 6)[:rng.randint(0, 2)]:
        out.append({**aggregate_xl(rng), "step": step, "covers": subset(rng, covered)})
    return [{"name": f"treaty {number}", **commissions(rng, treaty)} for number, treaty in enumerate(out)]


def report(rng):
    return chosen(rng, {
        "allocation": lambda: True, "return_periods": lambda: rng.sample(range(2, 3_000), 3),
        "levels": lambda: [round(rng.random() * 0.998 + 0.001, 6), 0.99]})


def capital(rng):
    return {"own_funds": amount(rng, 1_000, 1_000_000), **chosen(rng, {
        "measure": lambda: rng.choice(["var", "tvar"]), "level": lambda: millionths(rng, 0.1, 0.98)})}


def compound(rng):
    """The args of a portfolio."""
    lines = [f"line {number}" for number in range(rng.randint(1, 4))]
    indices = [index(rng, number) for number in range(rng.randint(0, 2))]
    groups = [group(rng, number, lines, [item["name"] for item in indices]) for number in range(rng.randint(1, 4))]
    lines_of = {item["name"]: {component["line"] for component in components_of(item)} for item in groups}
    covered = sorted(set().union(*lines_of.values()))
    args = {"iterations": rng.randint(1, 1_000), "lines": lines, "groups": groups, "indices": indices,
            "treaties": treaties(rng, lines_of, covered)}
    args.update(chosen(rng, {"decimals": lambda: rng.randint(0, 4), "report": lambda: report(rng),
                             "capital": lambda: capital(rng)}))
    return "risk.compound.v1", args
