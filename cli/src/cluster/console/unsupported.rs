//! The same functions in a build without the feature `console`.

use std::sync::Arc;

use forge_bus::SharedBus;
use forge_store::{Store, StoreLocation};
use tokio_util::sync::CancellationToken;

use super::ConsoleArgs;
use crate::error::CommandError;

/// Always fails.
///
/// # Errors
/// This build has no console.
pub fn serve(_: &ConsoleArgs) -> Result<(), CommandError> {
    let reason = "this build of forge has no console: build it with `--features console`";
    Err(CommandError::Input(reason.to_owned()))
}

/// Does nothing: there is no console.
pub async fn start_local(
    _: SharedBus,
    _: &StoreLocation,
    _: &Arc<Store>,
    _: Vec<String>,
    _: CancellationToken,
) {
}
