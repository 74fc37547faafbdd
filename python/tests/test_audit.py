"""Audits of what a run stored."""

from __future__ import annotations

import json
from pathlib import Path

import forge_kernel
import pytest


def stored_manifest(store: Path) -> Path:
    result = forge_kernel.run("examples/insurance.json", out=store)
    assert result.manifest is not None
    return Path(result.manifest)


def test_verdicts(tmp_path: Path) -> None:
    manifest = stored_manifest(tmp_path)
    proved = forge_kernel.audit(manifest, full=True, backend="simd")
    assert proved.proved and not proved.consistent and not proved.failed and proved.reasons == []
    assert proved.omission is None and proved.to_dict()["shards_reexecuted"] == proved.to_dict()["shards"]
    some = forge_kernel.audit(manifest.parent, reexecute=2, seed="a")
    assert some.consistent and not some.proved
    assert "re-execution" in some.checks["name"]
    assert repr(some) == "<Verdict on job quickstart-001: consistent>"


def test_changed_figures_are_reasons(tmp_path: Path) -> None:
    manifest = stored_manifest(tmp_path)
    document = json.loads(manifest.read_text())
    document["shards"] += 1
    manifest.write_text(json.dumps(document))
    verdict = forge_kernel.audit(manifest)
    assert verdict.failed and verdict.reasons
    assert all(": " in reason for reason in verdict.reasons)
    assert verdict.reasons[0].split(":")[0] in verdict._repr_html_()


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(forge_kernel.ForgeError, match="absent"):
        forge_kernel.audit(tmp_path / "absent/jobs/a/manifest.json")
    manifest = stored_manifest(tmp_path)
    with pytest.raises(forge_kernel.ForgeError, match="unknown backend"):
        forge_kernel.audit(manifest, full=True, backend="abacus")
    with pytest.raises(ValueError, match="full or reexecute"):
        forge_kernel.audit(manifest, full=True, reexecute=1)
    with pytest.raises(ValueError, match="signers or allow_unsigned"):
        forge_kernel.audit(manifest, signers="a", allow_unsigned=True)


def test_interrupted_audits_end(tmp_path: Path) -> None:
    model = forge_kernel.Insurance(
        iterations=30_000_000, claim_frequency=9, claim_severity_mu=6, claim_severity_sigma=1, job_id="long"
    )
    manifest = forge_kernel.run(model, out=tmp_path).manifest
    assert manifest is not None

    class Enough(Exception):
        pass

    def on_progress(done: int, total: int) -> None:
        assert total == 30_000_000
        raise Enough

    with pytest.raises(Enough):
        forge_kernel.audit(manifest, full=True, threads=1, progress=on_progress)
