//! What `forge --version` prints: the version, the commit of the sources, the kernel version and
//! the backends of this build.

use std::sync::LazyLock;

use forge_kernel::KERNEL;

/// Values for `--backend` that this build has, best levels and single devices aside.
const BACKENDS: &str = if cfg!(feature = "gpu") { "scalar, simd, gpu" } else { "scalar, simd" };

/// Commit of the sources, `unknown` in debug builds.
pub const COMMIT: &str = env!("FORGE_BUILD_COMMIT");
/// Target that the command was built for.
pub const TARGET: &str = env!("FORGE_BUILD_TARGET");

/// The lines of `--version` after the name of the command; `-V` prints the first one.
pub static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}\ncommit    {COMMIT}\nkernel    {KERNEL}\nbackends  {BACKENDS}\ntarget    {TARGET}")
});
