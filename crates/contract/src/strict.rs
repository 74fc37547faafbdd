//! Strict parsing of untrusted JSON: bounded size and depth, no duplicate or unknown keys, and no
//! number that another reader could decode differently. All errors of a document are reported
//! together, each with its JSON pointer.
//!
//! [`parse`] turns bytes into a tree of [`Node`]s; [`ObjectReader`] reads the fields of one object;
//! both collect errors in [`Errors`]. This module does not know the meaning of any field.

mod errors;
mod list;
mod message;
mod node;
mod object;
mod parse;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;

pub use self::{
    errors::{Errors, MAX_ERRORS, child_pointer},
    node::{MAX_NUMBER, Node, number_to_value},
    object::ObjectReader,
    parse::{MAX_DEPTH, MAX_DOCUMENT_BYTES, check_document, from_object, parse, parse_result},
    suggest::nearest_name,
};
