//! The HTTP client of S3: keeps what a store answers to a failed request, and limits the time of a
//! request by its size.
//!
//! `object_store` only quotes the answer in the text of its error, so this client returns it as an
//! error of its own type, which stays in the chain of causes: see [`S3ErrorResponse::of`]. The
//! limit of `object_store` is for a whole request with its response, however large they are.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
};
use serde::Deserialize;
use sync_wrapper::SyncStream;
use tokio::time::timeout;

use super::options::S3Options;
use crate::error::S3ErrorResponse;

/// A header of every signed request to S3. Requests to other services, which provide credentials,
/// lack it; `object_store` examines their answers itself.
const SIGNED_REQUEST_HEADER: &str = "x-amz-content-sha256";
/// Bytes of an answer that are read: an error document of S3 has less than one kilobyte.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;
/// The object has not changed.
const NOT_MODIFIED: u16 = 304;
/// The object exists. `object_store` turns it into an error of its own, which says so.
const PRECONDITION_FAILED: u16 = 412;

/// Connects with `C`, limits the time of requests, and returns error responses of S3 as errors.
#[derive(Debug)]
pub(super) struct ErrorResponseConnector<C> {
    pub(super) inner: C,
    pub(super) options: S3Options,
}

impl<C: HttpConnector> HttpConnector for ErrorResponseConnector<C> {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let (inner, options) = (self.inner.connect(options)?, self.options.clone());
        Ok(HttpClient::new(ErrorResponseService { inner, options }))
    }
}

#[derive(Debug)]
struct ErrorResponseService {
    inner: HttpClient,
    options: S3Options,
}

/// The cause of an error after a time limit.
#[derive(Debug, thiserror::Error)]
#[error("nothing arrived for {0:?}")]
struct TimeLimitExceeded(Duration);

fn time_limit_error(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, TimeLimitExceeded(limit))
}

/// Ends a response with an error if no part of it arrives within `limit`.
fn limit_pauses(body: HttpResponseBody, limit: Duration) -> HttpResponseBody {
    let parts = stream::unfold(body.bytes_stream(), move |mut parts| async move {
        match timeout(limit, parts.next()).await {
            Ok(part) => part.map(|part| (part.map(Frame::data), parts)),
            Err(_) => Some((Err(time_limit_error(limit)), parts)),
        }
    });
    // Callers may ask for another part after the last one.
    HttpResponseBody::new(StreamBody::new(SyncStream::new(parts.fuse())))
}

#[async_trait]
impl HttpService for ErrorResponseService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_signed = request.headers().contains_key(SIGNED_REQUEST_HEADER);
        let limit = self.options.time_limit(request.body().content_length());
        let response = timeout(limit, self.inner.execute(request)).await;
        let response = response.map_err(|_| time_limit_error(limit))??;
        let pause = self.options.request_timeout;
        let response = response.map(|body| limit_pauses(body, pause));
        let status = response.status().as_u16();
        if !is_signed || status < 300 || [NOT_MODIFIED, PRECONDITION_FAILED].contains(&status) {
            return Ok(response);
        }
        let document = read_document(response.into_body()).await;
        let S3ErrorDocument { code, message } = S3ErrorDocument::parse(&document);
        // `object_store` sends a request again after an error of kind `Request`, as it does after
        // these statuses.
        let kind = match status {
            501 => HttpErrorKind::Unknown,
            408 | 429 | 500.. => HttpErrorKind::Request,
            _ => HttpErrorKind::Unknown,
        };
        Err(HttpError::new(kind, S3ErrorResponse { status, code, message }))
    }
}

/// The first bytes of a response; the status tells enough if they cannot be read.
async fn read_document(body: HttpResponseBody) -> Vec<u8> {
    let (mut chunks, mut document) = (body.bytes_stream(), Vec::new());
    while let Some(Ok(chunk)) = chunks.next().await {
        let rest = MAX_DOCUMENT_BYTES - document.len();
        document.extend_from_slice(&chunk[..chunk.len().min(rest)]);
        if chunk.len() >= rest {
            break;
        }
    }
    document
}

/// The document with which S3 describes an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct S3ErrorDocument {
    code: String,
    message: String,
}

impl S3ErrorDocument {
    /// Both parts are empty if this is no such document, as in the answer of a proxy.
    fn parse(document: &[u8]) -> Self {
        let text = std::str::from_utf8(document).unwrap_or_default();
        quick_xml::de::from_str(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use object_store::{
        BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
        aws::{AmazonS3, AmazonS3Builder},
        client::HttpRequestBody,
        path::Path as Key,
    };

    use super::*;
    use crate::error::StoreError;

    /// Answers every request with the same status and document, and counts the requests.
    #[derive(Debug, Clone)]
    struct FixedAnswer {
        status: u16,
        document: String,
        requests: Arc<AtomicUsize>,
    }

    impl FixedAnswer {
        fn new(status: u16, code: &str) -> Self {
            let document = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a &lt;b&gt;</Message>\
                 <RequestId>1</RequestId></Error>"
            );
            Self { status, document, requests: Arc::default() }
        }
    }

    impl HttpConnector for FixedAnswer {
        fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    #[async_trait]
    impl HttpService for FixedAnswer {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let mut response = HttpResponse::new(self.document.clone().into());
            *response.status_mut() = self.status.try_into().unwrap();
            Ok(response)
        }
    }

    fn connector<C>(inner: C) -> ErrorResponseConnector<C> {
        ErrorResponseConnector { inner, options: S3Options::default() }
    }

    /// A client whose store gives this answer; it sends a request up to three times.
    fn client(answer: &FixedAnswer) -> AmazonS3 {
        let delay = std::time::Duration::from_millis(1);
        let backoff = BackoffConfig { init_backoff: delay, max_backoff: delay, base: 2.0 };
        AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_region("r")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_retry(RetryConfig { backoff, max_retries: 2, ..RetryConfig::default() })
            .with_http_connector(connector(answer.clone()))
            .build()
            .unwrap()
    }

    async fn read_error(answer: &FixedAnswer) -> object_store::Error {
        client(answer).get(&Key::from("x")).await.unwrap_err()
    }

    #[tokio::test]
    async fn answers_are_classified_by_status_and_code_and_only_outages_are_retried() {
        let cases = [
            (301, "PermanentRedirect", 1, "Unusable"),
            (400, "AuthorizationHeaderMalformed", 1, "Unusable"),
            (400, "InvalidToken", 1, "Unusable"),
            (401, "", 1, "Unusable"),
            (403, "AccessDenied", 1, "Unusable"),
            (404, "NoSuchBucket", 1, "Missing { path: \"the bucket b\" }"),
            (404, "NoSuchKey", 1, "Missing { path: \"s3://b/x\" }"),
            (409, "OperationAborted", 1, "Unavailable"),
            (429, "SlowDown", 3, "Unavailable"),
            (500, "InternalError", 3, "Unavailable"),
            (501, "NotImplemented", 1, "Unusable"),
            (503, "SlowDown", 3, "Unavailable"),
            (507, "InsufficientStorage", 3, "Full"),
        ];
        for (status, code, requests, expected) in cases {
            let answer = FixedAnswer::new(status, code);
            let error = read_error(&answer).await;
            let response = S3ErrorResponse { status, code: code.to_owned(), message: "a <b>".to_owned() };
            assert_eq!(S3ErrorResponse::of(&error), Some(&response));
            let classified = format!("{:?}", StoreError::from_object_store("s3://b/x", &error));
            assert!(classified.starts_with(expected), "{status} {code}: {classified}");
            assert_eq!(answer.requests.load(Ordering::SeqCst), requests, "{status} {code}");
        }
    }

    #[tokio::test]
    async fn existing_object_and_conflicting_write_are_told_apart() {
        let create = async |status, code| {
            let client = client(&FixedAnswer::new(status, code));
            client.put_opts(&Key::from("x"), "a".into(), PutMode::Create.into()).await.unwrap_err()
        };
        let existing = create(412, "PreconditionFailed").await;
        assert!(matches!(existing, object_store::Error::AlreadyExists { .. }), "{existing:?}");
        let conflict = create(409, "ConditionalRequestConflict").await;
        assert!(!matches!(conflict, object_store::Error::AlreadyExists { .. }), "{conflict:?}");
        assert_eq!(S3ErrorResponse::of(&conflict).map(|response| response.status), Some(409));
    }

    #[tokio::test]
    async fn answers_without_a_body_are_read_to_their_end() {
        let mut answer = FixedAnswer::new(412, "");
        answer.document.clear();
        let write = client(&answer).put_opts(&Key::from("x"), "a".into(), PutMode::Create.into()).await;
        assert!(matches!(write, Err(object_store::Error::AlreadyExists { .. })), "{write:?}");
        answer.status = 404;
        let missing = StoreError::from_object_store("s3://b/x", &read_error(&answer).await);
        assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
    }

    #[tokio::test]
    async fn a_body_that_has_ended_stays_at_its_end() {
        use http_body::Body;

        let service = connector(FixedAnswer::new(200, "x")).connect(&ClientOptions::new()).unwrap();
        let mut body = service.execute(HttpRequest::new(HttpRequestBody::empty())).await.unwrap().into_body();
        let mut frames = 0;
        for _ in 0..4 {
            let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
            frames += usize::from(next.await.is_some());
        }
        assert_eq!(frames, 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_document_is_classified_by_its_status() {
        let mut answer = FixedAnswer::new(403, "");
        answer.document = "<html>".to_owned() + &"x".repeat(2 * MAX_DOCUMENT_BYTES);
        let error = StoreError::from_object_store("s3://b/x", &read_error(&answer).await);
        assert_eq!(error.to_string(), "s3://b/x cannot be used to store artifacts: access denied");
        answer.status = 502;
        let error = StoreError::from_object_store("s3://b/x", &read_error(&answer).await);
        assert_eq!(error.to_string(), "s3://b/x: the store answered 502");
    }

    #[tokio::test]
    async fn answers_to_unsigned_requests_are_left_alone() {
        let client = connector(FixedAnswer::new(403, "")).connect(&ClientOptions::new()).unwrap();
        let response = client.execute(HttpRequest::new(HttpRequestBody::empty())).await.unwrap();
        assert_eq!(response.status().as_u16(), 403);
    }

    /// Takes a second for every 64 KiB of a request, and for every byte of its response.
    #[derive(Debug)]
    struct SlowStore;

    impl HttpConnector for SlowStore {
        fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
            Ok(HttpClient::new(Self))
        }
    }

    #[async_trait]
    impl HttpService for SlowStore {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let seconds = (request.body().content_length() >> 16) as u64;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let parts = stream::unfold(seconds, |left| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                (left > 0).then(|| (Ok(Frame::data("x".into())), left - 1))
            });
            Ok(HttpResponse::new(HttpResponseBody::new(StreamBody::new(SyncStream::new(Box::pin(parts))))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_object_gets_more_time_and_a_silent_store_does_not() {
        let send = async |bytes: usize| {
            let client = connector(SlowStore).connect(&ClientOptions::new()).unwrap();
            let response = client.execute(HttpRequest::new(vec![0; bytes].into())).await?;
            response.into_body().bytes().await
        };
        assert_eq!(send(45 << 20).await.unwrap().len(), 720);
        #[derive(Debug)]
        struct SilentStore;
        impl HttpConnector for SilentStore {
            fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
                Ok(HttpClient::new(Self))
            }
        }
        #[async_trait]
        impl HttpService for SilentStore {
            async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
                std::future::pending().await
            }
        }
        let client = connector(SilentStore).connect(&ClientOptions::new()).unwrap();
        let start = tokio::time::Instant::now();
        let error = client.execute(HttpRequest::new(HttpRequestBody::empty())).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (HttpErrorKind::Timeout, Duration::from_secs(60)));
    }
}
