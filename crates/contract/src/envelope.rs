//! The envelope: a submitter's request.
//!
//! The types are the normal form: every default is written out and absent optional fields are omitted,
//! so that omitting a default and writing it give the same bytes.
//!
//! `Deserialize` on these types reads only our own stored `envelope.json`: it neither checks ranges nor
//! fills in defaults. A submitted envelope must go through [`strict::parse`](crate::strict::parse) and
//! [`Envelope::read`].
//!
//! The meaning of `args` belongs to the op's profile. Neither the args nor the set of existing ops is
//! known here.

mod normal_form;
mod reader;
mod schema;
#[cfg(test)]
mod tests;

pub use self::{
    normal_form::{
        ArtifactKind, Artifacts, Billing, BillingMode, BillingReason, Context, Envelope, Op, Policy, Seed,
        Target, VerificationLevel,
    },
    reader::EnvelopeDraft,
};
