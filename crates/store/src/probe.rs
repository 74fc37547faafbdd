//! Checks before a long run that a location can hold a store: that creating an object succeeds
//! exactly once.
//!
//! Some stores accept a conditional write and ignore its condition. Two runs of a job would then
//! overwrite each other's artifacts.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, path::Path as Key};

use crate::error::{S3ErrorResponse, StoreError};

/// Number of concurrent writers of the probe object.
const CONCURRENT_WRITERS: usize = 4;

/// Creates an object several times, concurrently and once more afterwards, and deletes it. Exactly
/// one creation must succeed. `prefix` is the prefix of its key, `display_name` the name of the
/// store in messages.
pub(crate) async fn check_conditional_create(
    objects: &dyn ObjectStore,
    prefix: &str,
    display_name: &str,
) -> Result<(), StoreError> {
    let key = Key::from(format!("{prefix}{}", unique_name()));
    let create = || objects.put_opts(&key, "probe".into(), PutMode::Create.into());
    let mut answers = join_all((0..CONCURRENT_WRITERS).map(|_| create())).await;
    answers.push(create().await);
    let deleted = objects.delete(&key).await;
    let mut created = 0;
    for answer in answers {
        match answer {
            Ok(_) => created += 1,
            Err(Error::AlreadyExists { .. }) => {}
            // Two concurrent creations conflict, and the store decides for neither.
            Err(error) if S3ErrorResponse::of(&error).is_some_and(|response| response.status == 409) => {}
            Err(error) => return Err(not_conditional(display_name, &error)),
        }
    }
    deleted.map_err(|error| StoreError::from_object_store(display_name, &error))?;
    match created {
        1 => Ok(()),
        _ => Err(StoreError::Unusable {
            path: display_name.to_owned(),
            reason: format!(
                "it let one object be created {created} times, so artifacts would not be immutable; the store must honour \
                 If-None-Match: *"
            ),
        }),
    }
}

/// Classifies a failed creation. A store without conditional writes answers 501.
fn not_conditional(display_name: &str, error: &Error) -> StoreError {
    match S3ErrorResponse::of(error) {
        Some(S3ErrorResponse { status: 501, .. }) => StoreError::Unusable {
            path: display_name.to_owned(),
            reason:
                "it does not support conditional writes (If-None-Match: *), so artifacts would not be immutable"
                    .to_owned(),
        },
        _ => StoreError::from_object_store(display_name, error),
    }
}

/// A name that is unique across processes, even with equal clocks and process ids.
#[expect(clippy::disallowed_methods, reason = "makes the name unique, and dates nothing")]
fn unique_name() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = RandomState::new().hash_one(since_epoch);
    format!("{}-{}-{random:016x}", process::id(), since_epoch.as_nanos())
}

#[cfg(test)]
mod tests {
    use object_store::{PutOptions, memory::InMemory};

    use super::*;
    use crate::fault_injection::FaultInjectingStore;

    #[tokio::test]
    async fn the_probe_object_is_deleted() {
        let objects = InMemory::new();
        check_conditional_create(&objects, ".forge-probe/", "memory").await.unwrap();
        let left = objects.list_with_delimiter(None).await.unwrap();
        assert!(left.objects.is_empty() && left.common_prefixes.is_empty());
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_rejected() {
        let objects =
            FaultInjectingStore::new(|_, options| Ok(PutOptions { mode: PutMode::Overwrite, ..options }));
        let error = check_conditional_create(&objects, ".forge-probe/", "s3://careless").await.unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(
            error.to_string().contains("s3://careless cannot be used to store artifacts: it let one object")
        );
        assert!(objects.list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());
    }
}
