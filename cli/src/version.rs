//! What `forge --version` prints: the version, the commit of the sources, the kernel version and
//! the backends of this build.

use std::sync::LazyLock;

use forge_kernel::KERNEL;

/// Values for `--backend` that this build has, best levels and single devices aside.
const BACKENDS: &str = if cfg!(feature = "gpu") { "scalar, simd, gpu" } else { "scalar, simd" };

/// The lines of `--version` after the name of the command; `-V` prints the first one.
pub static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("FORGE_BUILD_COMMIT"));
    let target = env!("FORGE_BUILD_TARGET");
    format!("{version}\ncommit    {commit}\nkernel    {KERNEL}\nbackends  {BACKENDS}\ntarget    {target}")
});
