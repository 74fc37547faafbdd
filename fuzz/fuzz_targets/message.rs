//! Messages between services as any role may send them: reading them and checking their signatures
//! never panics, and one of another version is never reported as malformed.
#![no_main]

use forge_contract::{
    attestation::Attestation,
    protocol::{PROTOCOL, UnreadableMessage, parse_message},
    task::{OutcomeBatch, ShardTask, VerifierTask},
    verdict::Verdict,
};
use forge_fuzz as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(attestation) = parse_message::<Attestation>(data) {
        assert!(!attestation.is_signature_valid(), "no input has the key of an agent");
    }
    if let Ok(verdict) = parse_message::<Verdict>(data) {
        assert!(!verdict.is_signature_valid(), "no input has the key of a verifier");
    }
    if let Ok(task) = parse_message::<ShardTask>(data) {
        assert_eq!(task.protocol, PROTOCOL);
    }
    let _ = parse_message::<VerifierTask>(data);
    if let Err(UnreadableMessage::OtherVersion(version)) = parse_message::<OutcomeBatch>(data) {
        assert_ne!(version, PROTOCOL);
    }
});
