//! The data types of Forge Kernel: everything that submitters, planners, workers, verifiers,
//! aggregators and auditors exchange, with strict parsing and canonical bytes.
//!
//! The crate is pure: no I/O, no clock, no randomness, and no execution.
//!
//! Reading order: [`envelope`] → [`plan`] → [`program`] ([`treaty`]) → [`shard`] →
//! [`shard_result`] ([`result_details`], [`occurrence_subject`]) → [`task`] → [`attestation`] →
//! [`verdict`] → [`job`] → [`artifact`] → [`manifest_log`]; [`job_list`], [`quota`].
//!
//! # Example
//!
//! An envelope is parsed strictly, with every error located; its canonical JSON writes the defaults
//! out.
//!
//! ```
//! use forge_contract::{
//!     canonical::to_canonical_json,
//!     envelope::Envelope,
//!     strict::{Errors, parse},
//! };
//!
//! let read = |json: &[u8]| {
//!     let root = parse(json)?;
//!     let mut errors = Errors::new();
//!     let draft = Envelope::read(&root, &mut errors);
//!     errors.into_result(draft.envelope)
//! };
//!
//! let op = r#"{"name": "mc", "version": 1, "profile": "insurance.v1"}"#;
//! let envelope = read(format!(r#"{{"op": {op}, "args": {{}}}}"#).as_bytes()).unwrap();
//! let json = String::from_utf8(to_canonical_json(&envelope).unwrap()).unwrap();
//! assert!(json.ends_with(r#""seed":{"mode":"derived"}}"#));
//!
//! let misspelt = format!(r#"{{"op": {op}, "args": {{}}, "sed": {{}}}}"#);
//! let invalid = read(misspelt.as_bytes()).unwrap_err();
//! assert_eq!(invalid.to_string(), "/sed: is not a known key: did you mean `seed`?");
//! ```

pub mod agent;
pub mod amount;
pub mod artifact;
pub mod attestation;
pub mod canonical;
pub mod digest;
pub mod distribution;
pub mod envelope;
pub mod error;
pub mod ids;
pub mod job;
pub mod job_list;
pub mod listed_amounts;
pub mod manifest_log;
pub mod marks;
pub mod merkle;
pub mod occurrence_subject;
pub mod plain_program;
pub mod plan;
pub mod program;
pub mod protocol;
pub mod quota;
pub mod result_details;
pub mod shard;
pub mod shard_result;
pub mod strict;
pub mod table;
pub mod task;
pub mod treaty;
pub mod verdict;
pub mod wire;
