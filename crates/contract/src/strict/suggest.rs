//! "Did you mean …?": the known name nearest to one that was written. Texts only.

/// The nearest of `known` to `given`, if it is near: at most two edits away, or one is the start of the other. Upper
/// and lower case are the same. The first of equally near names wins.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let ranked = known.into_iter().filter_map(|name| Some((distance_rank(&given, name)?, name)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, name)| name)
}

/// How far the names are apart: edits, or 3 where one is a start of the other. `None` if they are not near.
fn distance_rank(given: &str, name: &str) -> Option<usize> {
    let shorter = given.len().min(name.len());
    if given.len().abs_diff(name.len()) <= 2 {
        let edits = edit_distance(given.as_bytes(), name.as_bytes());
        // In a name of one or two letters two edits leave nothing of it.
        if edits <= 2 && edits < shorter {
            return Some(edits);
        }
    }
    let starts = given.starts_with(name) || name.starts_with(given);
    (starts && shorter >= 3).then_some(3)
}

/// The number of insertions, deletions and replacements that turn one into the other (Levenshtein).
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("freq", "frqe", 2)] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), edits, "{a} {b}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["claim_freq", "claim_severity_mu", "iterations", "op"];
        let cases = [
            ("claim_frq", Some("claim_freq")),
            ("claimFreq", Some("claim_freq")),
            ("iter", Some("iterations")),
            ("claim_freq_per_year", Some("claim_freq")),
            ("opp", Some("op")),
            ("xy", None),
            ("policy_limit", None),
            ("", None),
        ];
        for (given, expected) in cases {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
    }
}
