//! The envelope: a submitter's request.
//!
//! The types are the normal form: every default is written out and absent optional fields are
//! omitted, so that omitting a default and writing it give the same bytes.
//!
//! `Deserialize` on these types is only for envelopes that Forge itself has stored: it neither
//! checks ranges nor fills in defaults. A submitted envelope must go through
//! [`strict::parse`](crate::strict::parse) and [`Envelope::read`].
//!
//! This module knows neither the meaning of `args`, which the op's profile defines, nor the set of
//! existing ops.

mod about;
mod normal_form;
mod reader;
mod schema;
#[cfg(test)]
mod tests;

pub use self::{
    about::About,
    normal_form::{
        ArtifactKind, Artifacts, Billing, BillingMode, BillingReason, Context, Envelope, Op, Policy, Seed,
        Target, VerificationLevel,
    },
    reader::{EnvelopeDraft, SCHEMA_MEMBER},
};
