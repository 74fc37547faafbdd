//! A cache of compiled models for the services that turn envelopes into requests.

use std::cell::Cell;

use forge_contract::{digest::Digest, error::InvalidDocument};
use forge_kernel::request::{CompiledModel, ModelCompiler};
use quick_cache::sync::Cache;

use crate::cache_weight::{CacheWeight, bounded_cache};

/// Models that a service compiles at the same time for one purpose. One takes seconds at worst, and
/// a core.
pub const CONCURRENT_COMPILATIONS: usize = 2;

/// Caches compiled models, at most 64 MiB of them; most take some 300 kB. When several threads ask
/// for the same model at once, one compiles it and the others wait for its result.
///
/// ```
/// use forge_kernel::request::Request;
/// use forge_service::model_cache::ModelCache;
///
/// let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
///     "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 8,
///         "claim_severity_sig": 1.2}}"#;
/// let models = ModelCache::new(32);
/// let first = Request::from_json_with(envelope, &models).unwrap();
/// let second = Request::from_json_with(envelope, &models).unwrap();
/// assert!(std::sync::Arc::ptr_eq(&first.program, &second.program));
/// ```
#[derive(Debug)]
pub struct ModelCache {
    models: Cache<Digest, CompiledModel, CacheWeight>,
}

impl ModelCache {
    /// Caches up to `capacity` models.
    pub fn new(capacity: usize) -> Self {
        Self { models: bounded_cache(capacity) }
    }
}

/// The cached models of a [`ModelCache`], as a compiler that compiles nothing. With it, a service
/// that bounds its concurrent compilations reads envelopes of cached models without a permit.
#[derive(Debug)]
pub struct CachedModels<'a> {
    cache: &'a ModelCache,
    has_missed: Cell<bool>,
}

impl<'a> CachedModels<'a> {
    /// The models of a cache.
    pub fn new(cache: &'a ModelCache) -> Self {
        Self { cache, has_missed: Cell::new(false) }
    }

    /// Whether a model was not in the cache. The error of that request says nothing about its
    /// envelope.
    pub fn has_missed(&self) -> bool {
        self.has_missed.get()
    }
}

impl ModelCompiler for CachedModels<'_> {
    fn get_or_compile(
        &self,
        model: Digest,
        _: &mut dyn FnMut() -> Result<CompiledModel, InvalidDocument>,
    ) -> Result<CompiledModel, InvalidDocument> {
        self.cache.models.get(&model).ok_or_else(|| {
            self.has_missed.set(true);
            InvalidDocument::single("/args", "describe a model that is not compiled yet")
        })
    }
}

impl ModelCompiler for ModelCache {
    fn get_or_compile(
        &self,
        model: Digest,
        compile: &mut dyn FnMut() -> Result<CompiledModel, InvalidDocument>,
    ) -> Result<CompiledModel, InvalidDocument> {
        self.models.get_or_insert_with(&model, compile)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use forge_kernel::request::Request;

    use super::*;

    fn compiled(frequency: f64) -> CompiledModel {
        let envelope = format!(
            r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}}, "args": {{"iterations": 1000,
                "claim_freq": {frequency}, "claim_severity_mu": 1, "claim_severity_sig": 1}}}}"#
        );
        let request = Request::from_json(envelope.as_bytes()).unwrap();
        CompiledModel { program: request.program, digest: request.program_digest }
    }

    #[test]
    fn threads_that_ask_at_once_share_one_compilation() {
        let (models, compilations, asking) = (ModelCache::new(1), AtomicUsize::new(0), AtomicUsize::new(0));
        let model = compiled(0.1);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    asking.fetch_add(1, Ordering::SeqCst);
                    let cached = models.get_or_compile(Digest([1; 32]), &mut || {
                        compilations.fetch_add(1, Ordering::SeqCst);
                        while asking.load(Ordering::SeqCst) < 4 {
                            thread::yield_now();
                        }
                        Ok(model.clone())
                    });
                    assert_eq!(cached.unwrap().digest, model.digest);
                });
            }
        });
        assert_eq!(compilations.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_model_is_found_without_compiling_it_only_once_it_is_cached() {
        let (models, model) = (ModelCache::new(2), compiled(0.1));
        let find = || {
            let cached = CachedModels::new(&models);
            let found = cached.get_or_compile(Digest([1; 32]), &mut || panic!("compiled"));
            (found.ok().map(|found| found.digest), cached.has_missed())
        };
        assert_eq!(find(), (None, true));
        models.get_or_compile(Digest([1; 32]), &mut || Ok(model.clone())).unwrap();
        assert_eq!(find(), (Some(model.digest), false));
    }

    #[test]
    fn no_more_than_the_capacity_is_cached_and_errors_are_not() {
        let (models, model) = (ModelCache::new(2), compiled(0.1));
        let invalid = || Err(InvalidDocument::single("/args", "are wrong"));
        assert!(models.get_or_compile(Digest([0; 32]), &mut { invalid }).is_err());
        for number in 0..10 {
            let name = Digest([number; 32]);
            assert!(models.get_or_compile(name, &mut || Ok(model.clone())).is_ok());
            assert!(models.get_or_compile(name, &mut { invalid }).is_ok(), "model {number} is not cached");
        }
        assert!(models.models.len() <= 2);
    }
}
