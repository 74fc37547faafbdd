//! The option `--keep-shards`: how much of a job's shard results is kept as `shards.bin`.

use std::{fmt, str::FromStr};

const MIB: u64 = 1 << 20;
const UNLIMITED: &str = "unlimited";

/// Upper bound on the shard results of a job that are kept. A larger job keeps none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRetention(u64);

impl ShardRetention {
    /// The bound in bytes.
    pub fn max_bytes(self) -> u64 {
        self.0
    }
}

/// The bound that applies without the option: 64 MiB.
impl Default for ShardRetention {
    fn default() -> Self {
        Self(64 * MIB)
    }
}

impl FromStr for ShardRetention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNLIMITED {
            return Ok(Self(u64::MAX));
        }
        let mebibytes = text.parse::<u64>().ok().and_then(|count| count.checked_mul(MIB));
        mebibytes.map(Self).ok_or_else(|| format!("must be a number of MiB, 0 for none, or {UNLIMITED}"))
    }
}

impl fmt::Display for ShardRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => f.write_str(UNLIMITED),
            bytes => write!(f, "{}", bytes / MIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_mebibytes_or_unlimited() {
        for text in ["0", "64", "unlimited"] {
            assert_eq!(text.parse::<ShardRetention>().unwrap().to_string(), text);
        }
        assert_eq!("64".parse(), Ok(ShardRetention::default()));
        for text in ["", "-1", "true", "64MiB", "18446744073709551615"] {
            assert!(text.parse::<ShardRetention>().is_err(), "{text}");
        }
    }
}
