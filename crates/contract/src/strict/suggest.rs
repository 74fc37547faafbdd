//! "Did you mean …?": finds the known name that is closest to a misspelt one. The caller words the
//! message.

use std::cmp::Reverse;

/// The known name closest to `given`, if it is close enough: at most two edits away, or one name is
/// a prefix of the other. Case is ignored. Of equally close names, the one that shares the longest
/// beginning wins, and then the first.
pub fn nearest_name<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let ranked = known.into_iter().filter_map(|name| Some((distance_rank(&given, name)?, name)));
    ranked.min_by_key(|(rank, name)| (*rank, Reverse(common_prefix(&given, name)))).map(|(_, name)| name)
}

/// Number of bytes with which both texts begin.
fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Distance between the names: the number of edits, or 3 if one is a prefix of the other. `None` if
/// they are not close.
fn distance_rank(given: &str, name: &str) -> Option<usize> {
    let shorter = given.len().min(name.len());
    if given.len().abs_diff(name.len()) <= 2 {
        let edits = strsim::levenshtein(given, name);
        // Two edits can replace a name of one or two letters entirely.
        if edits <= 2 && edits < shorter {
            return Some(edits);
        }
    }
    let is_prefix = given.starts_with(name) || name.starts_with(given);
    (is_prefix && shorter >= 3).then_some(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equally_close_names_the_one_with_the_same_beginning_is_suggested() {
        let known = ["claim_severity_mu", "claim_severity_sig"];
        assert_eq!(nearest_name("claim_severity_sd", known), Some("claim_severity_sig"));
        assert_eq!(nearest_name("claim_severity_mx", known), Some("claim_severity_mu"));
    }

    #[test]
    fn only_close_names_are_suggested() {
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
            assert_eq!(nearest_name(given, known), expected, "{given}");
        }
    }
}
