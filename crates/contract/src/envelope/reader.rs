//! Reads an untrusted envelope into its normal form. Checks the form of every field except those of
//! `args`.

use serde_json::json;
use strum::VariantArray;

use super::{
    about::About,
    normal_form::{Artifacts, Billing, Context, Envelope, Op, Policy, Seed},
};
use crate::strict::{Errors, Node, ObjectReader, number_to_value};

/// Member by which an editor finds the JSON Schema of an envelope. It is read and not kept.
pub const SCHEMA_MEMBER: &str = "$schema";

const SEED_IS_EXPLICIT: [(&str, bool); 2] = [("derived", false), ("explicit", true)];

/// Limits of `policy`, as in the JSON Schema of [`Policy`].
const MAX_AGENTS: u64 = 1_000_000;
const MAX_TIMEOUT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
const MAX_SEED_BYTES: usize = 1024;

/// An envelope before its args are read.
#[derive(Debug)]
pub struct EnvelopeDraft<'n> {
    /// The envelope with empty args, to be replaced with the normal form that the profile produces.
    pub envelope: Envelope,
    /// The object at `/args`; `None`, with an error recorded, if it is missing or not an object.
    pub args: Option<&'n Node>,
}

impl Envelope {
    /// Reads all fields except those of `args`, and records every error. The op's name, version and
    /// profile are checked for form only.
    ///
    /// To complete the envelope, read `args` with [`ObjectReader::open`] at "/args", put its normal
    /// form into `envelope.args` (numbers by [`number_to_value`](crate::strict::number_to_value)),
    /// and call [`Errors::into_result`].
    pub fn read<'n>(root: &'n Node, errors: &mut Errors) -> EnvelopeDraft<'n> {
        let Some(mut object) = ObjectReader::open(root, "", errors) else {
            return EnvelopeDraft { envelope: placeholder_envelope(), args: None };
        };
        let envelope = Envelope {
            ctx: read_context(object.optional_object("ctx")),
            about: About::read(object.optional_object("about")),
            op: read_op(&mut object),
            args: serde_json::Map::new(),
            policy: read_policy(object.optional_object("policy")),
            seed: read_seed(&mut object),
            artifacts: read_artifacts(object.optional_object("artifacts")),
        };
        let args = read_args(&mut object);
        object.optional_string(SCHEMA_MEMBER);
        object.finish();
        EnvelopeDraft { envelope, args }
    }
}

fn placeholder_envelope() -> Envelope {
    Envelope {
        ctx: Context::default(),
        about: None,
        op: placeholder_op(),
        args: serde_json::Map::new(),
        policy: Policy::default(),
        seed: Seed::default(),
        artifacts: Artifacts::default(),
    }
}

fn placeholder_op() -> Op {
    Op { name: String::new(), version: 0, profile: String::new() }
}

/// The variants of an enum and their names, in order of declaration.
fn choices<T: VariantArray + Copy + Into<&'static str>>() -> Vec<(&'static str, T)> {
    T::VARIANTS.iter().map(|&variant| (variant.into(), variant)).collect()
}

fn read_args<'n>(object: &mut ObjectReader<'n, '_>) -> Option<&'n Node> {
    let given = object.required_object("args").is_some();
    object.node("args").filter(|_| given)
}

fn read_context(mut object: ObjectReader) -> Context {
    let label = "a string of 1 to 128 printable ASCII characters";
    let context = Context {
        job_id: object.optional_parsed(
            "job_id",
            "a string of 1 to 64 of the characters A-Z, a-z, 0-9, _ and -",
            |text| text.parse().ok(),
        ),
        run_id: object.optional_parsed("run_id", label, read_label),
        stage_id: object.optional_parsed("stage_id", label, read_label),
        trace_id: object.optional_parsed(
            "trace_id",
            "a W3C trace id: 32 lower-case hexadecimal digits, not all of them zero",
            read_trace_id,
        ),
        billing: read_billing(object.optional_object("billing")),
    };
    object.finish();
    context
}

fn read_label(text: &str) -> Option<String> {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    read_token(text, 128, printable)
}

fn read_trace_id(text: &str) -> Option<String> {
    let hexadecimal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let allowed = text.len() == 32 && text.bytes().any(|byte| byte != b'0');
    read_token(text, 32, hexadecimal).filter(|_| allowed)
}

/// The text, if it has 1 to `max_bytes` bytes and all of them are allowed.
fn read_token(text: &str, max_bytes: usize, allowed: impl Fn(u8) -> bool) -> Option<String> {
    ((1..=max_bytes).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
}

fn read_billing(mut object: ObjectReader) -> Billing {
    let billing = Billing {
        mode: object.optional_choice("mode", &choices()).unwrap_or_default(),
        reason: object.optional_choice("reason", &choices()).unwrap_or_default(),
    };
    object.finish();
    billing
}

fn read_op(envelope: &mut ObjectReader) -> Op {
    let Some(mut object) = envelope.required_object("op") else {
        return placeholder_op();
    };
    let wanted = "a string of 1 to 64 of the characters a-z, 0-9, _, . and -";
    let name = |text: &str| {
        read_token(text, 64, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
    };
    let op = Op {
        name: object.required_parsed("name", wanted, name).unwrap_or_default(),
        version: object.required_integer("version", 1..=u64::from(u32::MAX)) as u32,
        profile: object.required_parsed("profile", wanted, name).unwrap_or_default(),
    };
    object.finish();
    op
}

fn read_policy(mut object: ObjectReader) -> Policy {
    let policy = Policy {
        target: object.optional_choice("target", &choices()).unwrap_or_default(),
        min_agents: object.optional_integer("min_agents", 0..=MAX_AGENTS).unwrap_or_default() as u32,
        max_agents: object.optional_integer("max_agents", 0..=MAX_AGENTS).unwrap_or_default() as u32,
        timeout_ms: object.optional_integer("timeout_ms", 0..=MAX_TIMEOUT_MS).unwrap_or_default(),
        verify: object.optional_choice("verify", &choices()).unwrap_or_default(),
        verify_ratio: object.optional_number("verify_ratio", 0.0..=1.0),
    };
    let (min, max) = (policy.min_agents, policy.max_agents);
    if max != 0 && max < min {
        object.error(
            "max_agents",
            format!("must be 0 (no maximum) or at least min_agents, {min}; it is {max}"),
        );
    }
    object.finish();
    policy
}

fn read_seed(envelope: &mut ObjectReader) -> Seed {
    let text = match envelope.node("seed") {
        Some(Node::Number(number)) => number_to_value(*number).to_string(),
        Some(Node::String(text)) => text.clone(),
        _ => return read_seed_object(envelope.optional_object("seed")),
    };
    // What was meant is clear: only the form is wrong.
    let form = json!({"mode": "explicit", "value": text});
    let kind = envelope.node("seed").map_or("", Node::type_name);
    envelope.error("seed", format!("must be an object, not {kind}: write {form}"));
    Seed::Derived
}

fn read_seed_object(mut object: ObjectReader) -> Seed {
    let explicit = object.optional_choice("mode", &SEED_IS_EXPLICIT).unwrap_or_default();
    let seed = if explicit {
        read_seed_value(&mut object)
    } else {
        if object.node("value").is_some() && !object.has_error("mode") {
            object
                .error("value", "is not allowed with mode \"derived\": omit it, or set mode to \"explicit\"");
        }
        Seed::Derived
    };
    object.finish();
    seed
}

fn read_seed_value(object: &mut ObjectReader) -> Seed {
    let wanted = "a string of 1 to 1024 bytes";
    let value = object.required_parsed("value", wanted, |text| read_token(text, MAX_SEED_BYTES, |_| true));
    Seed::Explicit { value: value.unwrap_or_default() }
}

fn read_artifacts(mut object: ObjectReader) -> Artifacts {
    let default = Artifacts::default();
    let persist = object.optional_bool("persist").unwrap_or(default.persist);
    let kv_namespace = object.optional_parsed(
        "kv_namespace",
        "a string of 1 to 64 of the characters A-Z, a-z, 0-9, _ and -",
        |text| read_token(text, 64, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'),
    );
    let mut include = object.optional_choices("include", &choices()).unwrap_or(default.include);
    include.sort();
    let artifacts =
        Artifacts { persist, kv_namespace: kv_namespace.unwrap_or(default.kv_namespace), include };
    object.finish();
    artifacts
}
