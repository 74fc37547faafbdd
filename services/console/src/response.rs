//! Answers with their headers. Every answer forbids scripts of others, framing, guessing of media
//! types and caching.

use std::error::Error;

use bytes::Bytes;
use forge_contract::artifact::ArtifactReference;
use forge_documents::document;
use forge_store::{ArtifactReader, StoreError};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{self, HeaderName, HeaderValue},
};
use maud::Markup;

use crate::assets::ConsoleAsset;

/// An answer.
pub type ConsoleResponse = Response<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>;

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// What the console's own pages may load: the embedded files, and answers of the console.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                           connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What an artifact may do that a browser shows, such as report.html: use its own style. It runs no
/// script, submits no form and has an origin of its own.
const ARTIFACT_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page, or a part of one.
pub fn html(status: StatusCode, markup: Markup) -> ConsoleResponse {
    whole(status, "text/html; charset=utf-8", markup.into_string())
}

/// A sentence.
pub fn text(status: StatusCode, text: &str) -> ConsoleResponse {
    whole(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// An embedded file.
pub fn asset(asset: &'static ConsoleAsset) -> ConsoleResponse {
    whole(StatusCode::OK, asset.media_type, asset.text.clone())
}

fn whole(status: StatusCode, media_type: &'static str, body: String) -> ConsoleResponse {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    respond(status, media_type, PAGE_POLICY, body)
}

/// An artifact. If its content turns out not to have its hash, the answer ends before it is
/// complete, so that a browser reports a failed download.
pub fn artifact(reference: &ArtifactReference, reader: ArtifactReader) -> ConsoleResponse {
    let frames = checked_chunks(reader).map_ok(Frame::data).map_err(Into::into);
    let body = BodyExt::boxed_unsync(StreamBody::new(frames));
    // The writer of the manifest chose the media type in the reference, so it is not trusted.
    let media_type = document::media_type(&reference.name);
    let mut response = respond(StatusCode::OK, media_type, ARTIFACT_POLICY, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, reference.size.into());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", reference.sha256)) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// The chunks of an artifact. The last one follows only once the hash of all is known to be right.
fn checked_chunks(reader: ArtifactReader) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let chunks = stream::try_unfold((reader, None::<Bytes>), async |(mut reader, mut held)| {
        loop {
            match (reader.next_chunk().await?, held.take()) {
                (Some(chunk), Some(previous)) => return Ok(Some((previous, (reader, Some(chunk))))),
                (Some(chunk), None) => held = Some(chunk),
                (None, last) => return Ok(last.map(|last| (last, (reader, None)))),
            }
        }
    });
    chunks.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::warn!(%error, "sending an artifact failed; its answer ends incomplete");
        }
    })
}

fn respond(
    status: StatusCode,
    media_type: &'static str,
    policy: &'static str,
    body: UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>,
) -> ConsoleResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
