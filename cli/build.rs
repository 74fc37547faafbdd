//! States the commit of the sources in `FORGE_BUILD_COMMIT`, which `forge --version` prints.
//!
//! `FORGE_COMMIT` names it where the sources are no git checkout, as in an image. Otherwise git
//! names it, in release builds alone: a debug build would be compiled anew after every commit.
//! Sources of a tarball have no commit, even if they lie in the checkout of something else.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is compiled, relative to this package. Changes of these files mark a commit as changed.
const SOURCES: [&str; 5] = ["src", "../crates", "../services", "../Cargo.toml", "../Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-env-changed=FORGE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = env::var("FORGE_COMMIT").unwrap_or_default();
    let commit = match given.trim() {
        "" if env::var("PROFILE").is_ok_and(|profile| profile == "release") => commit_of_checkout(),
        "" => None,
        commit if is_commit(commit) => Some(commit.to_owned()),
        other => panic!("FORGE_COMMIT must be a commit, 7 to 64 hexadecimal digits, but is {other:?}"),
    };
    println!("cargo::rustc-env=FORGE_BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=FORGE_BUILD_TARGET={}", env::var("TARGET").expect("cargo sets TARGET"));
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit that is checked out, and whether its sources were changed; `None` without a checkout
/// of this repository. Cargo runs this again once the commit or a source has changed.
fn commit_of_checkout() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let checkout = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if fs::canonicalize(checkout).ok()? != fs::canonicalize(root).ok()? {
        return None;
    }
    for name in ["HEAD", "logs/HEAD"] {
        // Cargo would run this in every build if it had to watch a file that does not exist.
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        path.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    }
    SOURCES.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let commit = git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))?;
    let status = [&["--no-optional-locks", "status", "--porcelain", "--"], &SOURCES[..]].concat();
    let changes = git(&status)?;
    Some(if changes.is_empty() { commit } else { format!("{commit}, with uncommitted changes") })
}

/// The output of a git command in this package; `None` if it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
