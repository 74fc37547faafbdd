//! `forge context`: the file, and which settings of a context a command uses.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope};

/// A configuration directory of its own, and stores.
struct Home {
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        Self { sandbox: Sandbox::new() }
    }

    fn command(&self) -> Command {
        let mut command = forge();
        command.current_dir(self.sandbox.path()).env("XDG_CONFIG_HOME", self.sandbox.path());
        for name in ["FORGE_CONTEXT", "FORGE_STORE", "FORGE_NATS_URL"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::new(&self.command().args(arguments).output().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.sandbox.path().join("forge/contexts.json")
    }

    /// Runs a job with this id in a store of this name.
    fn add_store(&self, store: &str, job: &str) {
        let file = self.sandbox.path().join("envelope.json");
        fs::write(&file, insurance_envelope(job).to_string()).unwrap();
        self.run(&["run", "envelope.json", "--no-progress", "--out", store]).expect_code(0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn contexts_are_added_used_listed_shown_and_removed() {
    let home = Home::new();
    assert!(home.run(&["context", "list"]).expect_code(0).stdout.starts_with("no contexts: add one"));
    assert!(!home.file().exists());
    fs::write(home.sandbox.path().join("prod.creds"), "SECRET").unwrap();
    let add = ["context", "add", "prod", "--nats", "tls://nats.example.com", "--credentials", "prod.creds"];
    home.run(&[&add[..], &["--store", "s3://forge"]].concat()).expect_code(0);
    home.run(&["context", "add", "test", "--nats", "nats://127.0.0.1:4222"]).expect_code(0);
    assert_eq!((mode(&home.file()), mode(home.file().parent().unwrap())), (0o600, 0o700));
    let content = fs::read_to_string(home.file()).unwrap();
    assert!(!content.contains("SECRET"), "{content}");
    let credentials = home.sandbox.path().join("prod.creds");
    let shown = || -> Value {
        let output = home.run(&["context", "show", "--format", "json"]).expect_code(0);
        serde_json::from_str(&output.stdout).unwrap()
    };
    assert_eq!(
        shown(),
        json!({"name": "prod", "current": true, "nats": "tls://nats.example.com", "credentials": credentials,
            "store": "s3://forge"})
    );
    home.run(&["context", "use", "test"]).expect_code(0);
    assert_eq!(shown()["name"], "test");
    let lines = home.run(&["context", "list", "--format", "json"]).expect_code(0).stdout;
    let names: Vec<_> = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert_eq!((&names[0]["name"], &names[0]["current"]), (&json!("prod"), &json!(false)));
    assert_eq!((&names[1]["name"], &names[1]["current"]), (&json!("test"), &json!(true)));
    let text = home.run(&["context", "list"]).expect_code(0).stdout;
    assert!(text.lines().any(|line| line.starts_with("  *  test ")), "{text}");
    home.run(&["context", "remove", "test"]).expect_code(0);
    home.run(&["context", "show"]).expect_code(2).expect_stderr("no context is in use: give its name");
    let text = home.run(&["context", "show", "prod"]).expect_code(0).stdout;
    assert!(text.contains("FORGE_NATS_URL     tls://nats.example.com"), "{text}");
    assert!(credentials.exists());
}

#[test]
fn an_option_precedes_a_variable_and_a_variable_precedes_the_context() {
    let home = Home::new();
    for store in ["by-context", "by-variable", "by-option"] {
        home.add_store(store, store);
    }
    home.run(&["context", "add", "a", "--nats", "nats://a", "--store", "by-context"]).expect_code(0);
    home.run(&["context", "add", "b", "--nats", "nats://b", "--store", "by-variable"]).expect_code(0);
    // The context names its store by its absolute path.
    let elsewhere = home.sandbox.path().join("forge");
    let listed = |job: &str, variables: &[(&str, &str)], options: &[&str]| {
        let mut command = home.command();
        command.current_dir(&elsewhere).envs(variables.iter().copied());
        command.args(["artifacts", "ls", job]).args(options);
        CommandOutput::new(&command.output().unwrap())
    };
    listed("by-context", &[], &[]).expect_code(0);
    listed("by-variable", &[("FORGE_STORE", "../by-variable")], &[]).expect_code(0);
    listed("by-option", &[("FORGE_STORE", "../by-variable")], &["--store", "../by-option"]).expect_code(0);
    // The variable of the context precedes the one in use, and the option precedes that.
    listed("by-variable", &[("FORGE_CONTEXT", "b")], &[]).expect_code(0);
    listed("by-context", &[("FORGE_CONTEXT", "b")], &["--context", "a"]).expect_code(0);
    listed("by-context", &[], &["--context", "c"])
        .expect_code(2)
        .expect_stderr("there is no context c; contexts: a, b");
}

#[test]
fn commands_of_services_use_no_context() {
    let home = Home::new();
    home.run(&["context", "add", "a", "--nats", "nats://192.0.2.1", "--store", "s3://elsewhere"])
        .expect_code(0);
    for service in ["planner", "aggregator"] {
        let text = home.run(&[service, "--print-config"]).expect_code(0).stdout;
        assert!(!text.contains("192.0.2.1") && !text.contains("elsewhere"), "{text}");
    }
    let help = |command: &str| home.run(&[command, "--help"]).expect_code(0).stdout;
    assert!(help("jobs").contains("--context <NAME>") && !help("worker").contains("--context"));
}

#[test]
fn settings_that_a_context_cannot_have_are_refused() {
    let home = Home::new();
    let add = |options: &[&str]| home.run(&[&["context", "add", "x"], options].concat()).expect_code(2);
    add(&[]).expect_stderr("--nats");
    add(&["--nats", "nats://user:secret@host"]).expect_stderr("holds a credential: contexts hold none");
    add(&["--nats", "nats://h", "--credentials", "absent"])
        .expect_stderr("--credentials: absent: No such file");
    add(&["--nats", "nats://h", "--user", "u"]).expect_stderr("--password-file");
    add(&["--nats", "nats://h", "--store", "memory:"]).expect_stderr("is no store of a deployment");
    home.run(&["context", "add", "a b", "--nats", "nats://h"])
        .expect_code(2)
        .expect_stderr("letters, digits");
    home.run(&["context", "use", "x"]).expect_code(2).expect_stderr("there is no context x; contexts: none");
    assert!(!home.file().exists());
    fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    fs::write(home.file(), "{").unwrap();
    home.run(&["context", "list"]).expect_code(2).expect_stderr("contexts.json: is no file of contexts");
    // Commands that use no context do not read it.
    home.run(&["envelope", "new"]).expect_code(0);
}
