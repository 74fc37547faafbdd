//! Tests that need a GPU adapter: whether they run, are skipped, or must fail.

use std::io::Write;

/// Returns whether an adapter was found. If none was, reports that the test checks nothing on a
/// GPU.
///
/// # Panics
/// If no adapter was found and `FORGE_REQUIRE_GPU` is set.
pub fn require_adapter(found: bool) -> bool {
    if !found {
        let reason = "no GPU adapter: install a Vulkan driver, such as Debian's mesa-vulkan-drivers";
        assert!(std::env::var_os("FORGE_REQUIRE_GPU").is_none(), "{reason}");
        report_skip(&format!("nothing is checked on a GPU: {reason}"));
    }
    found
}

/// Writes why a test checks nothing to standard error. Not with `eprintln!`, whose output the test
/// runner captures and shows only for failing tests.
pub fn report_skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "{reason}");
}
