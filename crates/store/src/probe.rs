//! Finding out before a long run that a place can hold a store: that objects can be created in it, once each. Some stores
//! accept the condition of a conditional write and ignore it, and two runs of a job would overwrite each other there.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, path::Path as Key};

use crate::error::{Refusal, StoreError};

/// How many writers race for the object.
const RACERS: usize = 4;

/// Creates an object, which must work once however many try at once or later, and deletes it. `prefix` is what its key
/// begins with, `shown` how people call the place.
pub(crate) async fn probe(objects: &dyn ObjectStore, prefix: &str, shown: &str) -> Result<(), StoreError> {
    let key = Key::from(format!("{prefix}{}", unique()));
    let create = || objects.put_opts(&key, "probe".into(), PutMode::Create.into());
    let mut answers = join_all((0..RACERS).map(|_| create())).await;
    answers.push(create().await);
    let deleted = objects.delete(&key).await;
    let mut created = 0;
    for answer in answers {
        match answer {
            Ok(_) => created += 1,
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(not_conditional(shown, &error)),
        }
    }
    deleted.map_err(|error| StoreError::from_object_store(shown, &error))?;
    match created {
        1 => Ok(()),
        _ => Err(StoreError::Unusable {
            path: shown.to_owned(),
            reason: format!(
                "it let one object be created {created} times, so artifacts would not be immutable; a store must honour \
                 If-None-Match: *"
            ),
        }),
    }
}

/// A store that does not know conditional writes says so with 501.
fn not_conditional(shown: &str, error: &Error) -> StoreError {
    match Refusal::of(error) {
        Some(Refusal { status: 501, .. }) => StoreError::Unusable {
            path: shown.to_owned(),
            reason:
                "it does not offer conditional writes (If-None-Match: *), so artifacts would not be immutable"
                    .to_owned(),
        },
        _ => StoreError::from_object_store(shown, error),
    }
}

/// A name that no other process uses, however alike their clocks and process ids are.
fn unique() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = RandomState::new().hash_one(since_epoch);
    format!("{}-{}-{random:016x}", process::id(), since_epoch.as_nanos())
}

#[cfg(test)]
mod tests {
    use object_store::{PutOptions, memory::InMemory};

    use super::*;
    use crate::faulty::Faulty;

    #[tokio::test]
    async fn the_probe_leaves_nothing_behind() {
        let objects = InMemory::new();
        probe(&objects, ".forge-probe/", "memory").await.unwrap();
        let left = objects.list_with_delimiter(None).await.unwrap();
        assert!(left.objects.is_empty() && left.common_prefixes.is_empty());
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_refused() {
        let objects = Faulty::new(|_, options| Ok(PutOptions { mode: PutMode::Overwrite, ..options }));
        let error = probe(&objects, ".forge-probe/", "s3://careless").await.unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(
            error.to_string().contains("s3://careless cannot be used to store artifacts: it let one object")
        );
        assert!(objects.list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());
    }
}
