//! Why an adapter cannot be used.

/// Why an adapter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The machine has no GPU, or no Vulkan driver for it.
    #[error("no Vulkan driver reports a GPU: install the driver of the GPU")]
    NoAdapter,
    /// The device could not be opened, or failed during its self-test.
    #[error("{adapter} cannot be used: {reason}")]
    Unusable {
        /// Name of the adapter with its driver.
        adapter: String,
        /// The driver's error.
        reason: String,
    },
    /// The results of the device differ from those of the scalar reference.
    #[error(
        "{adapter} is refused: its results differ from the scalar reference ({reason}); its driver or hardware is faulty"
    )]
    WrongResults {
        /// Name of the adapter with its driver.
        adapter: String,
        /// The first difference found.
        reason: String,
    },
}
