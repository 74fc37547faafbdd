//! Strict parsing of untrusted JSON: bounded size and depth, no duplicate or unknown keys, no number that
//! another reader could take for a different one, and all errors reported at once, each with its pointer.
//!
//! [`parse`] turns bytes into a tree of [`Node`]s; [`ObjectReader`] reads the fields of one object; both
//! collect errors in [`Errors`]. The meaning of fields is not known here.

mod errors;
mod message;
mod node;
mod object;
mod parse;
mod suggest;
#[cfg(test)]
mod tests;

pub use self::{
    errors::{Errors, MAX_ERRORS, child_pointer},
    node::{MAX_NUMBER, Node, number_to_value},
    object::ObjectReader,
    parse::{MAX_DEPTH, MAX_DOCUMENT_BYTES, from_object, parse},
};
