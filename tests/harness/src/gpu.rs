//! Whether tests on a GPU can run.

/// Whether there is something to test on, given whether an adapter was found. Where none was, says so.
///
/// # Panics
/// No adapter was found, and FORGE_REQUIRE_GPU is set.
pub fn is_there(found: bool) -> bool {
    if !found {
        let missing = "no GPU adapter: install a Vulkan driver, such as Debian's mesa-vulkan-drivers";
        assert!(std::env::var_os("FORGE_REQUIRE_GPU").is_none(), "{missing}");
        eprintln!("{missing}; this test proves nothing here");
    }
    found
}
