//! The example envelope of a profile, which `forge envelope new` prints and calibration executes.

use forge_contract::envelope::{Artifacts, Context, Envelope, Op, Policy, Seed};
use forge_kernel::workload::Profile;
use serde_json::{Map, Value};

/// A complete envelope of a profile with an explicit seed and no job id.
pub fn example_envelope(profile: &Profile) -> Envelope {
    Envelope {
        ctx: Context::default(),
        op: Op { name: profile.op.to_owned(), version: profile.version, profile: profile.name.to_owned() },
        args: match (profile.example_args)() {
            Value::Object(args) => args,
            _ => Map::new(),
        },
        policy: Policy::default(),
        seed: Seed::Explicit { value: "change-me".to_owned() },
        artifacts: Artifacts::default(),
    }
}
