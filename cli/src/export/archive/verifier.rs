//! The second implementation of docs/determinism.md, in Python, which archives contain.

/// The modules with which the second implementation computes `result.json` of an envelope: name and
/// text.
pub const VERIFIER_FILES: [(&str, &str); 19] = [
    ("forge_beta.py", include_str!("../../../../tests/interop/forge_beta.py")),
    ("forge_checks.py", include_str!("../../../../tests/interop/forge_checks.py")),
    ("forge_compound.py", include_str!("../../../../tests/interop/forge_compound.py")),
    ("forge_compound_output.py", include_str!("../../../../tests/interop/forge_compound_output.py")),
    ("forge_core.py", include_str!("../../../../tests/interop/forge_core.py")),
    ("forge_details.py", include_str!("../../../../tests/interop/forge_details.py")),
    ("forge_distribution.py", include_str!("../../../../tests/interop/forge_distribution.py")),
    ("forge_execution.py", include_str!("../../../../tests/interop/forge_execution.py")),
    ("forge_families.py", include_str!("../../../../tests/interop/forge_families.py")),
    ("forge_gamma.py", include_str!("../../../../tests/interop/forge_gamma.py")),
    ("forge_inverse_gaussian.py", include_str!("../../../../tests/interop/forge_inverse_gaussian.py")),
    ("forge_marks.py", include_str!("../../../../tests/interop/forge_marks.py")),
    ("forge_moments.py", include_str!("../../../../tests/interop/forge_moments.py")),
    ("forge_program.py", include_str!("../../../../tests/interop/forge_program.py")),
    ("forge_reader.py", include_str!("../../../../tests/interop/forge_reader.py")),
    ("forge_shard.py", include_str!("../../../../tests/interop/forge_shard.py")),
    ("forge_stats.py", include_str!("../../../../tests/interop/forge_stats.py")),
    ("forge_subjects.py", include_str!("../../../../tests/interop/forge_subjects.py")),
    ("forge_tables.py", include_str!("../../../../tests/interop/forge_tables.py")),
];
