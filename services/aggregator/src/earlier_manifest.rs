//! A manifest that is in the store before a job has stored its own: by an aggregator that died
//! before it ended the job, by an earlier submission of the same id, or by a stranger with access
//! to the store.

use forge_bus::BusError;
use forge_contract::{artifact::ManifestDocument, error::FailureCode};
use forge_documents::{CompletedJob, document::RESULT_JSON};
use forge_service::registry::{Registry, Role};

use crate::publish_error::PublishError;

/// Which manifests are kept as a job's own.
#[derive(Debug, Clone)]
pub(crate) enum EarlierManifestPolicy {
    /// Only manifests that an aggregator of this cluster stored for this submission.
    SameSubmission(Registry),
    /// Manifests of any submission of the same envelope, signed by any key.
    SameEnvelope,
}

impl EarlierManifestPolicy {
    /// Checks that a manifest may be kept as the job's own. `location` is its place, for messages.
    ///
    /// # Errors
    /// [`PublishError::Failed`] with the reason, or any error of reading the registry.
    pub async fn check(
        &self,
        completed: &CompletedJob<'_>,
        earlier: &ManifestDocument,
        location: &str,
    ) -> Result<(), PublishError> {
        let fail = |code, message| Err(PublishError::Failed { code, message });
        let job = &completed.job.id;
        if earlier.request != completed.job.envelope_digest {
            let message = format!(
                "{location} is the manifest of another envelope with the job id {job}: choose another \
                 ctx.job_id or another store"
            );
            return fail(FailureCode::Conflict, message);
        }
        let same_submission = matches!(self, Self::SameSubmission(_));
        if same_submission && earlier.job_uid != completed.job_uid {
            let message = format!(
                "{location} is the manifest of another submission of job {job} (uid {}): choose another \
                 ctx.job_id or another store",
                earlier.job_uid
            );
            return fail(FailureCode::Conflict, message);
        }
        let (stored, computed) = (earlier.result, completed.result.hash);
        if stored != computed {
            let message = format!("{location} has the result {stored}, but this run computed {computed}");
            return fail(FailureCode::VerificationFailed, message);
        }
        let named = earlier.artifacts.iter().find(|reference| reference.name == RESULT_JSON);
        if named.is_some_and(|reference| reference.sha256 != stored) {
            let message = format!("{location} has the result {stored}, but names another {RESULT_JSON}");
            return fail(FailureCode::VerificationFailed, message);
        }
        if let Some(reason) = self.find_forgery(completed, earlier).await? {
            let message = format!(
                "{location} was not stored by an aggregator of this job: {reason}; remove it, and submit the \
                 envelope under another ctx.job_id"
            );
            return fail(FailureCode::StorageFailed, message);
        }
        if !same_submission && earlier.job_uid != completed.job_uid {
            tracing::warn!(%job, uid = %earlier.job_uid, "keeping the manifest of an earlier submission");
        }
        Ok(())
    }

    /// Why an aggregator cannot have stored this manifest.
    async fn find_forgery(
        &self,
        completed: &CompletedJob<'_>,
        earlier: &ManifestDocument,
    ) -> Result<Option<String>, BusError> {
        // Only planners and aggregators can know the key before the manifest reveals it.
        let is_key_right = earlier.job_key.0 == *completed.job_key.as_bytes();
        let signer = match (&earlier.signer, earlier.is_signature_valid()) {
            (Some(signer), Some(true)) => signer,
            (_, None) => return Ok(Some("it is not signed".to_owned())),
            (_, Some(_)) => return Ok(Some("its signature is not valid".to_owned())),
        };
        let Self::SameSubmission(registry) = self else { return Ok(None) };
        if !is_key_right {
            return Ok(Some("it does not reveal the job's key".to_owned()));
        }
        if !registry.wait_until_registered(signer, &[Role::Aggregator]).await? {
            return Ok(Some(format!("its signer {signer} was never registered as an aggregator")));
        }
        Ok(None)
    }
}
