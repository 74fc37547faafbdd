"""The typed models: generated from the schemas, and the same envelopes as people write by hand."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import forge_kernel as fk
from forge_kernel import models
from forge_kernel._model import Document

GENERATOR = Path("python/generate_models.py")


def test_models_are_what_the_schemas_give() -> None:
    subprocess.run([sys.executable, str(GENERATOR), "--check"], check=True)


def test_stale_models_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "python/forge_kernel/models").mkdir(parents=True)
    (tmp_path / "schemas").symlink_to(Path("schemas").resolve())
    copy = tmp_path / GENERATOR
    copy.write_text(GENERATOR.read_text())
    for path in Path("python/forge_kernel/models").glob("*.py"):
        changed = path.read_text().replace("Years to simulate.", "Years.")
        (tmp_path / path).write_text(changed)
    done = subprocess.run([sys.executable, str(copy), "--check"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("profiles.py: not what the schemas give")


def test_every_class_is_described_and_takes_keywords() -> None:
    classes = [item for item in vars(models).values() if isinstance(item, type) and issubclass(item, Document)]
    assert len(classes) > 35
    for item in classes:
        assert item.__doc__ and not item.__doc__.startswith(f"{item.__name__}("), item
        assert all(field.kw_only for field in dataclasses.fields(item)), item  # type: ignore[arg-type]


def test_portfolio_of_classes_is_the_example() -> None:
    example = json.loads(Path("examples/portfolio.json").read_text())
    treaties: list[fk.TreatyTerms] = [
        fk.QuotaShare(name="Motor QS", step=1, covers=["motor"], cession=0.2, premium=60_000_000, commission=0.27),
        fk.OccurrenceXl(
            name="Property risk XL", step=1, covers=["property"], groups=["large"],
            limit=5_000_000, attachment=2_000_000, aad=1_000_000, aal=15_000_000,
        ),
        fk.OccurrenceXl(
            name="Cat XL 1", step=2, covers=["property", "motor"], groups=["windstorm"], limit=20_000_000,
            attachment=10_000_000, placed=0.9, reinstatements=[1.0, 1.0], premium=2_600_000,
        ),
        fk.OccurrenceXl(
            name="Cat XL 2", step=2, covers=["property", "motor"], groups=["windstorm"], limit=40_000_000,
            attachment=30_000_000, reinstatements=[1.0], premium=1_900_000,
        ),
        fk.AggregateXl(
            name="Stop loss", step=3, covers=["property", "motor", "liability"], limit=25_000_000,
            attachment=135_000_000, placed=0.85, premium=900_000,
        ),
    ]
    attritional = fk.AnnualGroup(
        name="attritional",
        annual=[
            fk.Annual(line="motor", amount=fk.Lognormal(mean=42_000_000, cv=0.06)),
            fk.Annual(line="property", amount=fk.Gamma(mean=18_000_000, cv=0.09)),
            fk.Annual(line="liability", amount=fk.Lognormal(mean=25_000_000, cv=0.12)),
        ],
    )
    large = fk.ClaimGroup(
        name="large",
        count=fk.NegativeBinomial(mean=14, contagion=0.08),
        claims=[
            fk.Claim(
                line="property", weight=0.5, severity=fk.Pareto(threshold=250_000, alpha=1.6), limit=20_000_000
            ),
            fk.Claim(line="motor", weight=0.3, severity=fk.Lognormal(mu=12.9, sigma=1.1)),
            fk.Claim(
                line="liability", weight=0.2, severity=fk.Gpd(threshold=300_000, scale=210_000, xi=0.55),
                deductible=100_000, limit=15_000_000, index="inflation",
            ),
        ],
    )
    windstorm = fk.StrikeGroup(
        name="windstorm",
        count=fk.NegativeBinomial(mean=1.8, contagion=0.35),
        strikes=[
            fk.Strike(line="property", severity=fk.Lognormal(mean=9_000_000, cv=2.8)),
            fk.Strike(line="motor", severity=fk.Lognormal(mean=1_200_000, cv=2.2), rank="same"),
        ],
    )
    model = fk.RiskCompound(
        iterations=1_000_000,
        decimals=2,
        lines=["property", "motor", "liability"],
        groups=[attritional, large, windstorm],
        indices=[fk.Index(name="inflation", distribution=fk.Lognormal(mean=1, cv=0.04))],
        treaties=treaties,
        capital=fk.Capital(own_funds=400_000_000, measure="var", level=0.995),
        report=fk.Report(
            allocation=True,
            return_periods=[2, 5, 10, 25, 50, 100, 200, 250, 500, 1000, 10000],
            levels=[0.5, 0.9, 0.95, 0.99, 0.995, 0.999],
        ),
        seed="ROOT_SEED_PORTFOLIO",
        job_id="portfolio-001",
        about=fk.About(**example["about"]),
        artifacts=fk.Artifacts(include=example["artifacts"]["include"]),
    )
    assert model.envelope() == example
    assert fk.run(model).hash == fk.run("examples/portfolio.json").hash


def test_event_tables_are_groups() -> None:
    losses = [fk.EventLoss(line="property", amounts=[1_000_000, 5_000_000])]
    table = fk.EventTable(rates=[0.1, 0.05], losses=losses, frequency=fk.NegativeBinomialFrequency(contagion=0.5))
    group = fk.EventGroup(name="windstorm", events=table)
    assert group.to_json()["events"]["frequency"] == {"negative_binomial": {"contagion": 0.5}}
    model = fk.RiskCompound(iterations=100_000, lines=["property"], groups=[group])
    result = fk.run(model)
    assert abs(result.mean - 350_000) < 5 * result.std_error
    plain = fk.EventTable(rates=[0.1, 0.05], losses=losses, frequency="poisson")
    assert plain.to_json()["frequency"] == "poisson"


def test_families_without_a_named_parameter_are_plain() -> None:
    assert fk.Constant(value=5).to_json() == {"constant": 5}
    assert fk.ConstantCount(count=5).to_json() == {"constant": {"count": 5}}
    assert fk.ZeroModified(of=fk.Poisson(mean=2), p0=0.5).to_json() == {
        "zero_modified": {"of": {"poisson": {"mean": 2}}, "p0": 0.5}
    }
    assert fk.InverseGaussian(mean=2, lambda_=3).to_json() == {"inverse_gaussian": {"lambda": 3, "mean": 2}}
