//! The example envelope of a profile, which `forge envelope new` prints and calibration executes.

use forge_contract::envelope::{Artifacts, Context, Envelope, Op, Policy, Seed};
use forge_kernel::workload::Profile;
use serde_json::{Map, Value};

/// A complete envelope of a profile's example, with an explicit seed and no job id.
pub fn example_envelope(profile: &Profile) -> Envelope {
    envelope_of(profile, (profile.example_args)())
}

/// A complete envelope of a profile and args of it, with an explicit seed and no job id.
pub fn envelope_of(profile: &Profile, args: Value) -> Envelope {
    Envelope {
        ctx: Context::default(),
        about: None,
        op: Op { name: profile.op.to_owned(), version: profile.version, profile: profile.name.to_owned() },
        args: match args {
            Value::Object(args) => args,
            _ => Map::new(),
        },
        policy: Policy::default(),
        seed: Seed::Explicit { value: "change-me".to_owned() },
        artifacts: Artifacts::default(),
    }
}
