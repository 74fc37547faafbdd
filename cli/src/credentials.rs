//! `forge credentials`: generates passwords, and the configuration of nats-server that knows them.
//! Writes files only; contacts no server.

mod nats_configuration;
mod nats_user;

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use forge_contract::ids::{PoolName, Submitter};
use serde_json::json;

use self::nats_user::{NatsUser, Pool, ROLES, UserKind, users};
use crate::{
    error::CommandError,
    local_path::local_path,
    output::{self, OutputFormat},
    text::table,
};

/// Cost of a hash. The least that nats-server accepts: passwords are random, so slow hashing adds
/// nothing to their 190 bits, and each connection costs the server one hash.
const BCRYPT_COST: u32 = 4;
/// Characters of a password.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Length of a password.
const PASSWORD_LENGTH: usize = 32;

/// First line of the settings of a pool or submitter, followed by the option that named it. A later
/// run finds the users of a directory by it.
const ORIGIN: &str = "# forge credentials ";
const POOL: &str = "--pool ";
/// Settings of a deployment with Compose.
const COMPOSE_ENV: &str = "compose.env";
const SUBMITTER: &str = "--submitter ";

const EXAMPLES: &str = "\
Examples:
  forge credentials secrets
  forge credentials secrets --pool own --pool acme --pool render:gpu --submitter alice
  FORGE_NATS_DATA=/data nats-server -c secrets/nats-server.conf

DIR then holds:
  nats-server.conf  configuration of nats-server, with a user for each role, pool and submitter
  accounts.conf     the part of it that concerns users, for configurations that include it
  passwords/USER    the password of each user
  env/USER          the settings of each user's processes, to be read with `set -a; . FILE`

Running the command again keeps the users and passwords of DIR, and adds what is new. To change a
password, delete its file first. To remove a user, delete env/USER and passwords/USER first. Files
in env are written anew.";

/// Generate passwords for every role, and the nats-server configuration that knows them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CredentialsArgs {
    /// Directory to write to; created if missing, and readable only by you
    #[arg(value_parser = local_path())]
    directory: PathBuf,
    /// Pool of workers, with :gpu if they execute on GPUs; repeatable. The user of pool NAME is
    /// worker-NAME, that of pool `default` is worker [default: default and gpu:gpu, if DIR has no
    /// pool]
    #[arg(long = "pool", value_name = "NAME[:gpu]")]
    pools: Vec<Pool>,
    /// Submitter with a user of its own, client-NAME, which can submit under no other name;
    /// repeatable
    #[arg(long = "submitter", value_name = "NAME")]
    submitters: Vec<Submitter>,
    /// Generate what docker-compose.yml needs too: a key for its S3 server, and files that
    /// containers can read, in a directory that only you can enter
    #[arg(long)]
    compose: bool,
    /// Output format: text is a table of users, json is one user per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// Two pools or submitters have the same name, or a file cannot be read or written.
pub fn execute(args: &CredentialsArgs) -> Result<(), CommandError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = users(&args.pools, &args.submitters).iter().find(|u| !names.insert(u.name.clone())) {
        return Err(CommandError::Input(format!("the user {} is named twice", twice.name)));
    }
    fs::create_dir_all(&args.directory)
        .with_context(|| format!("cannot create {}", args.directory.display()))?;
    let root = fs::canonicalize(&args.directory).context("cannot resolve the directory")?;
    let is_for_compose = args.compose || root.join(COMPOSE_ENV).exists();
    let directory = CredentialsDirectory { root, file_mode: if is_for_compose { 0o644 } else { 0o600 } };
    let with_hashes: Vec<_> = directory
        .users_with(args)?
        .into_iter()
        .map(|user| {
            let password = directory.password(&format!("passwords/{}", user.name))?;
            directory.write(&format!("env/{}", user.name), &directory.settings(&user))?;
            Ok((user, hash(&password)?))
        })
        .collect::<anyhow::Result<_>>()?;
    let configuration = nats_configuration::render(&with_hashes);
    directory.write("nats-server.conf", &configuration)?;
    directory.write("accounts.conf", nats_configuration::accounts_of(&configuration))?;
    if is_for_compose {
        directory.write_compose_files()?;
    }
    let rows: Vec<_> =
        with_hashes.iter().map(|(user, _)| vec![user.name.clone(), purpose(&user.kind)]).collect();
    let text = match args.format {
        OutputFormat::Json => output::to_json_lines(rows.iter().map(
            |row| json!({"user": row[0], "for": row[1], "env": directory.root.join("env").join(&row[0])}),
        )),
        OutputFormat::Text => format!("{}\n", table::render_table(&["User", "For"], &rows).join("\n")),
    };
    output::print(text.as_bytes())
}

/// What a user is for.
fn purpose(kind: &UserKind) -> String {
    match kind {
        UserKind::Role(role) => (*role).to_owned(),
        UserKind::Pool(Pool { name, is_gpu }) => {
            format!("pool {name} on {}", if *is_gpu { "GPUs" } else { "CPUs" })
        }
        UserKind::Submitter(submitter) => format!("submitter {submitter}"),
    }
}

/// The directory of a deployment's secrets.
struct CredentialsDirectory {
    /// Absolute path.
    root: PathBuf,
    file_mode: u32,
}

impl CredentialsDirectory {
    /// The users of this directory and those that the command line names.
    fn users_with(&self, args: &CredentialsArgs) -> Result<Vec<NatsUser>, CommandError> {
        let (mut pools, mut submitters) = self.recorded()?;
        for pool in &args.pools {
            match pools.iter().find(|recorded| recorded.name == pool.name) {
                None => pools.push(pool.clone()),
                Some(recorded) if recorded == pool => {}
                Some(recorded) => {
                    let user = users(std::slice::from_ref(recorded), &[]).swap_remove(ROLES.len()).name;
                    let message = format!(
                        "{} has pool {recorded}: to make it {pool}, delete env/{user} first",
                        self.root.display()
                    );
                    return Err(CommandError::Input(message));
                }
            }
        }
        if pools.is_empty() {
            let default = PoolName::DEFAULT.parse().map_err(CommandError::Input)?;
            let gpu = "gpu:gpu".parse().map_err(CommandError::Input)?;
            pools = vec![default, gpu];
        }
        submitters.extend(args.submitters.iter().cloned());
        submitters.sort();
        submitters.dedup();
        Ok(users(&pools, &submitters))
    }

    /// Pools and submitters of the files that an earlier run wrote, in the order of their names.
    fn recorded(&self) -> Result<(Vec<Pool>, Vec<Submitter>), CommandError> {
        let (mut pools, mut submitters) = (Vec::new(), Vec::new());
        let directory = self.root.join("env");
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((pools, submitters)),
            other => other.with_context(|| format!("cannot read {}", directory.display()))?,
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let mut paths = paths.with_context(|| format!("cannot read {}", directory.display()))?;
        paths.sort();
        for path in paths {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let named = path.file_name().unwrap_or_default().to_string_lossy();
            let (mut pool, mut submitter) = (None, None);
            let origin = text.lines().next().and_then(|line| line.strip_prefix(ORIGIN)).unwrap_or_default();
            if let Some(name) = origin.strip_prefix(POOL) {
                pool = name.parse::<Pool>().ok();
            } else if let Some(name) = origin.strip_prefix(SUBMITTER) {
                submitter = name.parse::<Submitter>().ok();
            } else if ["worker", "client-"].iter().any(|start| named.starts_with(start)) {
                let message = format!(
                    "{} does not begin with the option that named its user, such as `{ORIGIN}{POOL}acme` or \
                     `{ORIGIN}{SUBMITTER}alice`: restore that line, or delete the file to remove the user",
                    path.display()
                );
                return Err(CommandError::Input(message));
            }
            // Copies of files, under other names, are no users.
            let users = users(pool.as_slice(), submitter.as_slice());
            if users.iter().any(|user| user.name == named) {
                pools.extend(pool);
                submitters.extend(submitter);
            }
        }
        Ok((pools, submitters))
    }

    /// Returns the secret in a file, which is generated unless it exists.
    fn password(&self, name: &str) -> anyhow::Result<String> {
        let path = self.root.join(name);
        match fs::read_to_string(&path) {
            Ok(password) => {
                self.set_mode(&path)?;
                Ok(password.trim().to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let password = generate_password()?;
                self.write(name, &password)?;
                Ok(password)
            }
            Err(error) => Err(anyhow!(error).context(format!("cannot read {}", path.display()))),
        }
    }

    /// Writes a file below the root. Directories can be entered by their owner only.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.root.join(name);
        let failed = || format!("cannot write {}", path.display());
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).with_context(failed)?;
        for directory in [&self.root, parent] {
            fs::set_permissions(directory, Permissions::from_mode(0o700)).with_context(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(self.file_mode).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(failed)?;
        self.set_mode(&path)
    }

    fn set_mode(&self, path: &Path) -> anyhow::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(self.file_mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))
    }

    /// Environment variables of a user's processes.
    fn settings(&self, user: &NatsUser) -> String {
        let name = &user.name;
        let origin = match &user.kind {
            UserKind::Role(_) => String::new(),
            UserKind::Pool(pool) => format!("{ORIGIN}{POOL}{pool}\n"),
            UserKind::Submitter(submitter) => format!("{ORIGIN}{SUBMITTER}{submitter}\n"),
        };
        let mut lines = format!(
            "{origin}FORGE_NATS_USER={name}\nFORGE_NATS_PASSWORD_FILE='{}'\nFORGE_NATS_INBOX_PREFIX=_INBOX_{name}\n",
            self.root.join("passwords").join(name).display()
        );
        match &user.kind {
            UserKind::Role(_) => {}
            UserKind::Pool(Pool { name, .. }) => lines += &format!("FORGE_POOL={name}\n"),
            UserKind::Submitter(submitter) => lines += &format!("FORGE_SUBMITTER={submitter}\n"),
        }
        lines
    }

    /// Writes the key of the S3 server, and the variables of docker-compose.yml and of `forge` on
    /// the same machine.
    fn write_compose_files(&self) -> anyhow::Result<()> {
        let access_key = self.password("store/access-key-id")?;
        let secret_key = self.password("store/secret-access-key")?;
        let credentials = json!([{"accessKey": access_key, "secretKey": secret_key}]);
        let actions = ["Admin", "Read", "Write", "List", "Tagging"];
        let identities =
            json!({"identities": [{"name": "forge", "credentials": credentials, "actions": actions}]});
        self.write("store/s3.json", &identities.to_string())?;
        let client = NatsUser { name: "client".to_owned(), kind: UserKind::Role("client") };
        self.write(
            COMPOSE_ENV,
            &format!(
                "# For docker-compose.yml, generated by `forge credentials --compose`. Do not commit.\n\
                 FORGE_SECRETS='{}'\nFORGE_S3_ACCESS_KEY={access_key}\nFORGE_S3_SECRET_KEY={secret_key}\n\
                 # For the forge command on this machine.\nFORGE_NATS_URL=nats://127.0.0.1:4222\n{}\
                 FORGE_STORE=s3://forge\nAWS_ENDPOINT_URL=http://127.0.0.1:8333\nAWS_REGION=us-east-1\n\
                 AWS_ACCESS_KEY_ID={access_key}\nAWS_SECRET_ACCESS_KEY={secret_key}\n",
                self.root.display(),
                self.settings(&client)
            ),
        )
    }
}

/// A random password of letters and digits. Its first character is a letter, because nats-server
/// reads a value of digits as a number.
fn generate_password() -> anyhow::Result<String> {
    let mut password = String::new();
    while password.len() < PASSWORD_LENGTH {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)
            .map_err(|error| anyhow!("the random source of the system failed: {error}"))?;
        // Bytes beyond the largest multiple of the alphabet's size would favour some characters.
        for byte in bytes.into_iter().filter(|byte| *byte < 248) {
            let character = char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
            if password.len() < PASSWORD_LENGTH && (!password.is_empty() || character.is_ascii_alphabetic()) {
                password.push(character);
            }
        }
    }
    Ok(password)
}

/// The bcrypt hash of a password.
fn hash(password: &str) -> anyhow::Result<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| anyhow!("the random source of the system failed: {error}"))?;
    let hash = bcrypt::hash_with_salt(password, BCRYPT_COST, salt).context("hashing a password failed")?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_random_and_need_no_quoting() {
        let passwords: BTreeSet<String> = (0..100).map(|_| generate_password().unwrap()).collect();
        assert_eq!(passwords.len(), 100);
        for password in &passwords {
            assert!(
                password.len() == PASSWORD_LENGTH
                    && password.bytes().all(|byte| byte.is_ascii_alphanumeric())
            );
            assert!(password.starts_with(|first: char| first.is_ascii_alphabetic()), "{password}");
        }
        let password = passwords.first().unwrap();
        assert!(bcrypt::verify(password, &hash(password).unwrap()).unwrap());
    }
}
