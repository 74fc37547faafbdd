//! Reads envelopes from a file or standard input.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use forge_contract::{ids::JobId, strict::MAX_DOCUMENT_BYTES};
use forge_kernel::request::Request;

use crate::{envelope_run::EnvelopeRun, error::CommandError, output};

/// Reads an envelope and prepares its execution in this process. `-` is standard input.
///
/// # Errors
/// The file cannot be read, or the envelope is invalid.
pub fn read_run(path: &Path, job_id: Option<JobId>) -> Result<EnvelopeRun, CommandError> {
    let (source_name, bytes) = read_source(path)?;
    EnvelopeRun::new(&bytes, job_id).map_err(|errors| CommandError::InvalidEnvelope { source_name, errors })
}

/// Reads the bytes of an envelope and the request that it makes. `-` is standard input.
///
/// # Errors
/// See [`read_run`].
pub fn read_envelope(path: &Path) -> Result<(Vec<u8>, Request), CommandError> {
    let (source_name, bytes) = read_source(path)?;
    let request =
        Request::from_json(&bytes).map_err(|errors| CommandError::InvalidEnvelope { source_name, errors })?;
    Ok((bytes, request))
}

/// Prints a line for every warning about a valid envelope to standard error.
pub fn print_warnings(request: &Request) {
    for warning in request.warnings() {
        output::print_to_stderr(&format!("warning: {warning}"));
    }
}

/// Name and content of a file or of standard input: at most one byte more than an envelope may
/// have.
///
/// # Errors
/// [`CommandError::Input`] if it cannot be read.
pub fn read_source(path: &Path) -> Result<(String, Vec<u8>), CommandError> {
    let (source_name, bytes) = if path == Path::new("-") {
        ("standard input".to_owned(), read_bounded(io::stdin().lock()))
    } else {
        (path.display().to_string(), File::open(path).and_then(read_bounded))
    };
    let bytes = bytes.map_err(|error| CommandError::Input(format!("cannot read {source_name}: {error}")))?;
    Ok((source_name, bytes))
}

/// Reads at most one byte more than the size limit of an envelope, which is enough for the parser
/// to reject an oversized one without reading all of it.
fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
