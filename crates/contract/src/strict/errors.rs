//! Collects the errors of a document, each with its JSON pointer. Performs no checks of its own.

use crate::error::{FieldError, FieldErrorCode, InvalidDocument};

/// Maximum number of errors kept for one document. Further errors are only counted, which bounds
/// the size of the reply for any input.
pub const MAX_ERRORS: usize = 64;

/// Maximum length of a pointer, in characters. Longer keys are noise to a reader.
const MAX_POINTER_CHARS: usize = 200;

/// The errors of a document, in the order of discovery.
///
/// Duplicates are dropped. At most [`MAX_ERRORS`] errors are kept; the others are counted.
#[derive(Debug, Default)]
pub struct Errors {
    errors: Vec<FieldError>,
    omitted: usize,
}

impl Errors {
    /// Creates an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records an error of the value at `pointer` (RFC 6901; empty for the whole document).
    pub fn push(&mut self, pointer: &str, message: impl Into<String>) {
        self.push_as(FieldErrorCode::InvalidValue, pointer, message, None);
    }

    /// As [`Errors::push`], with the kind of the error. The hint is appended to the message.
    pub fn push_as(
        &mut self,
        code: FieldErrorCode,
        pointer: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut message = message.into();
        if let Some(hint) = &hint {
            message = format!("{message}: {hint}");
        }
        let error = FieldError { pointer: truncate_pointer(pointer), message, code, hint };
        if self.errors.contains(&error) {
            return;
        }
        if self.errors.len() == MAX_ERRORS {
            self.omitted += 1;
        } else {
            self.errors.push(error);
        }
    }

    /// Whether no error has been recorded.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether an error is recorded at exactly this pointer.
    pub fn has_error_at(&self, pointer: &str) -> bool {
        self.errors.iter().any(|error| error.pointer == pointer)
    }

    /// Whether an error is recorded at this pointer or inside the value there. Also true when
    /// errors were omitted, as one of them may be there.
    pub fn has_error_within(&self, pointer: &str) -> bool {
        let mut rests = self.errors.iter().filter_map(|error| error.pointer.strip_prefix(pointer));
        self.omitted > 0 || rests.any(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Removes the errors recorded at this pointer and inside the value there, whose cause is
    /// reported elsewhere.
    pub fn discard_within(&mut self, pointer: &str) {
        let is_within = |error: &FieldError| {
            error.pointer.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.errors.retain(|error| !is_within(error));
    }

    /// Returns `value` if no error was recorded. Readers put a placeholder into `value` only when
    /// they record an error, so no placeholder is ever returned.
    ///
    /// # Errors
    /// Returns all recorded errors, with a note if some were omitted.
    pub fn into_result<T>(mut self, value: T) -> Result<T, InvalidDocument> {
        if self.omitted > 0 {
            let message = format!("has {} more errors, which are not listed", self.omitted);
            self.errors.push(FieldError::new("", message));
        }
        InvalidDocument::from_errors(self.errors).map_or(Ok(value), Err)
    }
}

/// The pointer of a member or element: `parent` followed by `token`, escaped as in RFC 6901.
pub fn child_pointer(parent: &str, token: &str) -> String {
    let mut pointer = parent.to_owned();
    append_token(&mut pointer, token);
    pointer
}

/// Appends an escaped token to a pointer.
pub(super) fn append_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

fn truncate_pointer(pointer: &str) -> String {
    match pointer.char_indices().nth(MAX_POINTER_CHARS) {
        Some((end, _)) => format!("{}…", &pointer[..end]),
        None => pointer.to_owned(),
    }
}
