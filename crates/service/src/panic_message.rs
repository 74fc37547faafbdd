//! The text of a caught panic.

use std::any::Any;

/// Returns the message of a panic's payload; "no message" if the payload is not a string.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
