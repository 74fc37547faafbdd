//! Whether tests on a GPU can run.

use std::io::Write;

/// Whether there is something to test on, given whether an adapter was found. Where none was, says so.
///
/// # Panics
/// No adapter was found, and FORGE_REQUIRE_GPU is set.
pub fn is_there(found: bool) -> bool {
    if !found {
        let missing = "no GPU adapter: install a Vulkan driver, such as Debian's mesa-vulkan-drivers";
        assert!(std::env::var_os("FORGE_REQUIRE_GPU").is_none(), "{missing}");
        say(&format!("{missing}; this test proves nothing here"));
    }
    found
}

/// Says what a test leaves out. Not by `eprintln`, which the test runner shows of failing tests alone.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
