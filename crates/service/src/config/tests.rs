//! Options as clap parses them from a command line.

use std::fs;

use clap::{CommandFactory, FromArgMatches, Parser};
use forge_bus::{
    jetstream::{JetStreamOptions, NatsCredentials, Secret, TlsOptions},
    topology::TopologySettings,
};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "service")]
struct Cli {
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    topology: TopologyArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["service"], args].concat())
}

fn nats(args: &[&str]) -> Result<JetStreamOptions, ConfigError> {
    parse(args).unwrap().nats.jetstream_options("test")
}

#[test]
fn without_options_a_local_server_without_credentials_is_used() {
    let options = nats(&[]).unwrap();
    assert_eq!(options.urls, ["nats://127.0.0.1:4222"]);
    assert!(matches!(options.credentials, NatsCredentials::None));
    assert_eq!(options.tls, TlsOptions::default());
    assert!(!options.manage_topology);
    let default = TopologySettings::default();
    let settings = |args: &[&str]| parse(args).unwrap().topology.settings();
    assert_eq!(settings(&[]), TopologySettings { may_use_less_storage: true, ..default });
    let exact = TopologySettings { storage_bytes: 512 << 20, ..default };
    assert_eq!(settings(&["--storage-mib", "512"]), exact, "a setting is a requirement");
    assert_eq!(parse(&[]).unwrap().http, HttpArgs::default());
}

#[test]
fn help_names_every_option_and_its_environment_variable() {
    let help = Cli::command().render_long_help().to_string();
    let command = Cli::command();
    let options: Vec<_> = command.get_arguments().filter(|arg| arg.get_long().is_some()).collect();
    assert_eq!(options.len(), 18);
    for option in
        options.into_iter().filter(|option| !["help", "version"].contains(&option.get_id().as_str()))
    {
        let variable = option.get_env().expect("every option has a variable").to_str().unwrap();
        assert!(
            help.contains(&format!("--{}", option.get_long().unwrap())) && help.contains(variable),
            "{help}"
        );
    }
}

#[test]
fn a_password_comes_from_an_option_or_a_file_and_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "from a file\n").unwrap();
    let path = path.to_str().unwrap();
    let password = |args: &[&str]| match nats(args).unwrap().credentials {
        NatsCredentials::Password { user, password } if user == "u" => password,
        other => panic!("{other:?}"),
    };
    assert_eq!(password(&["--nats-user", "u", "--nats-password-file", path]), Secret::File(path.into()));
    assert_eq!(password(&["--nats-user", "u", "--nats-password", "p"]), Secret::Text("p".to_owned()));
    assert!(!format!("{:?}", parse(&["--nats-password", "hush"]).unwrap().nats).contains("hush"));
}

#[test]
fn conflicting_and_missing_options_are_errors_of_the_option_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["--nats-user", "u"], "--nats-password-file"),
        (&["--nats-password", "p"], "--nats-user"),
        (&["--nats-user", "u", "--nats-password", "p", "--nats-password-file", file], "--nats-password-file"),
        (&["--nats-creds", file, "--nats-user", "u", "--nats-password", "p"], "--nats-creds"),
        (&["--nats-nkey", file, "--nats-user", "u", "--nats-password", "p"], "--nats-nkey"),
        (&["--nats-creds", "/nonexistent"], "--nats-creds"),
        (&["--nats-cert", file], "--nats-key"),
        (&["--nats-key", file], "--nats-cert"),
        (&["--nats-inbox-prefix", "a..b"], "--nats-inbox-prefix"),
    ];
    for (args, field) in cases {
        assert_eq!(nats(args).unwrap_err().field, field, "{args:?}");
    }
}

#[test]
fn certificates_make_tls_mandatory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.pem");
    fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    let tls = nats(&["--nats-ca", path, "--nats-cert", path, "--nats-key", path]).unwrap().tls;
    assert_eq!(
        tls,
        TlsOptions {
            required: true,
            ca_file: Some(file.clone()),
            client_certificate: Some((file.clone(), file))
        }
    );
}

#[test]
fn empty_values_count_as_unset() {
    let empty = ["--nats-creds=", "--nats-user=", "--nats-password=", "--nats-inbox-prefix=", "--nats-ca="];
    assert_eq!(format!("{:?}", nats(&empty).unwrap()), format!("{:?}", nats(&[]).unwrap()));
    let cli = parse(&["--http=", "--identity=", "--otlp-endpoint="]).unwrap();
    assert_eq!(cli.http, HttpArgs::default());
    assert!(crate::identity::load(&cli.identity).is_ok());
    assert!(parse(&["--http", "127.0.0.1:9464"]).unwrap().http.http.is_some());
}

#[test]
fn errors_about_invalid_values_name_the_option() {
    let cases: [&[&str]; 6] = [
        &["--replicas", "2"],
        &["--lease-ms", "499"],
        &["--http", "9464"],
        &["--log", "loud"],
        &["--log", "forge_bus=loud"],
        &["--log-format", "xml"],
    ];
    for args in cases {
        let error = parse(args).unwrap_err().to_string();
        assert!(error.contains(args[0]), "{error}");
    }
    let cli = parse(&["--replicas", "3", "--lease-ms", "500", "--log", "info,forge_bus=debug"]).unwrap();
    assert_eq!((cli.topology.replicas, cli.topology.settings().lease.as_millis()), (3, 500));
}

#[test]
fn the_effective_configuration_names_origins_and_hides_secrets() {
    let args =
        ["service", "--nats-url", "nats://u:secret1@a:1,tls://b:2,u:sec/ret@c", "--nats-password", "secret2"];
    let matches = Cli::command().get_matches_from(args);
    Cli::from_arg_matches(&matches).unwrap();
    let settings = effective_settings(&Cli::command(), &matches);
    let text = render_text(&settings);
    let has = |line: &str| text.lines().any(|found| found.split_whitespace().eq(line.split_whitespace()));
    assert!(has("nats-url = nats://***@a:1,tls://b:2,***@c (from flag)"), "{text}");
    assert!(has("nats-password = *** (from flag)"), "{text}");
    assert!(has("lease-ms = 30000 (from default)"), "{text}");
    assert!(has("http = - (from default)"), "{text}");
    assert!(!text.contains("secret"));
}
