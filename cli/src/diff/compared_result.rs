//! One of the two results that are compared: `result.json` of a job, or of a file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use forge_contract::{
    canonical::canonical_digest,
    digest::Digest,
    envelope::Op,
    program::{Group, Program},
    strict,
};
use forge_documents::document::RESULT_JSON;
use forge_kernel::{KERNEL, request::Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    artifact_limits,
    error::CommandError,
    stored_job::{JobLocation, StoredJob},
};

/// A result and where it came from.
pub struct ComparedResult {
    /// The job, or the file.
    pub source: String,
    /// SHA-256 of the canonical bytes.
    pub hash: Digest,
    /// The fields.
    pub fields: ResultFields,
}

/// What is compared of `result.json`.
#[derive(Deserialize)]
pub struct ResultFields {
    schema: String,
    kernel: u32,
    /// The operation.
    pub op: Op,
    /// The args in normal form.
    pub args: Map<String, Value>,
    /// Where the random numbers come from.
    pub seed: SeedFields,
    program: Digest,
    /// How many iterations were executed.
    pub iterations: IterationFields,
    /// The figures.
    pub output: Map<String, Value>,
}

/// Where the random numbers come from.
#[derive(Deserialize)]
pub struct SeedFields {
    /// Root of the seed tree.
    pub root_seed: Digest,
}

/// How many iterations were executed.
#[derive(Deserialize)]
pub struct IterationFields {
    /// Iterations that the result is made of.
    pub performed: u64,
}

impl ComparedResult {
    /// Reads the result that `path` names: a job's, that of a file, or that of standard input.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such result, [`CommandError::Mismatch`] if it is not
    /// the one that its manifest states.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        if path == Path::new("-") {
            return Self::from_reader("standard input".to_owned(), io::stdin().lock());
        }
        match JobLocation::from_path(path) {
            Ok(location) => Self::from_job(&location, path),
            Err(_) if path.exists() && !path.is_dir() => {
                let shown = path.display().to_string();
                let file = File::open(path);
                let file =
                    file.map_err(|error| CommandError::Input(format!("cannot read {shown}: {error}")))?;
                Self::from_reader(shown, file)
            }
            Err(error) => Err(error),
        }
    }

    fn from_job(location: &JobLocation, path: &Path) -> Result<Self, CommandError> {
        let stored = StoredJob::open(location)?;
        stored.check_result_reference()?;
        let (manifest, source) = (&stored.manifest, format!("job {}", location.job));
        let reference = stored.artifact_reference(RESULT_JSON).ok_or_else(|| {
            let manifest = path.display();
            CommandError::Input(format!(
                "{source} did not keep {RESULT_JSON}: write it with `forge report {manifest} --json FILE`, and \
                 compare FILE"
            ))
        })?;
        Self::from_bytes(source, &stored.read_artifact(reference, manifest.shards)?)
    }

    fn from_reader(source: String, reader: impl Read) -> Result<Self, CommandError> {
        let max = artifact_limits::max_bytes(RESULT_JSON, 0);
        let mut bytes = Vec::new();
        let read = reader.take(max + 1).read_to_end(&mut bytes);
        read.map_err(|error| CommandError::Input(format!("cannot read {source}: {error}")))?;
        Self::from_bytes(source, &bytes)
    }

    fn from_bytes(source: String, bytes: &[u8]) -> Result<Self, CommandError> {
        let refused = |reason: String| CommandError::Input(format!("{source} is no {RESULT_JSON}: {reason}"));
        let max = artifact_limits::max_bytes(RESULT_JSON, 0) as usize;
        let node = strict::parse_result(bytes, max).map_err(|errors| refused(errors.to_string()))?;
        let value = node.to_value();
        let hash = canonical_digest(&value).map_err(|error| refused(error.to_string()))?;
        let fields = ResultFields::deserialize(&value).map_err(|error| refused(error.to_string()))?;
        if fields.schema != "forge.result.v1" {
            return Err(refused(format!("its schema is {:?}", fields.schema)));
        }
        if fields.kernel != KERNEL {
            let version = fields.kernel;
            return Err(refused(format!("it has kernel version {version}, and this forge has {KERNEL}")));
        }
        Ok(Self { source, hash, fields })
    }

    /// Whether every iteration of both results draws the same random numbers for the same parts.
    ///
    /// # Errors
    /// The args are not those of a result.
    pub fn has_common_random_numbers(&self, other: &Self) -> Result<bool, CommandError> {
        let (a, b) = (&self.fields, &other.fields);
        let is_same_run = a.seed.root_seed == b.seed.root_seed
            && a.op == b.op
            && a.iterations.performed == b.iterations.performed;
        Ok(is_same_run && draws_alike(self.request()?.program.as_ref(), other.request()?.program.as_ref()))
    }

    /// The op and the args as a request, whose program is the result's.
    fn request(&self) -> Result<Request, CommandError> {
        let envelope = json!({"op": self.fields.op, "args": self.fields.args});
        let request = Request::from_json(envelope.to_string().as_bytes());
        let request = request
            .map_err(|errors| CommandError::Input(format!("{} has invalid args: {errors}", self.source)))?;
        if request.program_digest == self.fields.program {
            return Ok(request);
        }
        Err(CommandError::Mismatch(format!(
            "{} states the program {}, but its args make {}",
            self.source, self.fields.program, request.program_digest
        )))
    }
}

/// Whether both programs use every draw of an iteration for the same part. Amounts, terms and
/// treaties may differ: they take the same number of draws, as long as occurrences follow in random
/// order in both or in neither.
fn draws_alike(a: &Program, b: &Program) -> bool {
    let mut groups = a.groups.iter().zip(&b.groups);
    let is_same_group = |(a, b): (&Group, &Group)| {
        let ranks = a.components.iter().map(|component| component.same_rank);
        a.counts == b.counts
            && a.occurrence == b.occurrence
            && ranks.eq(b.components.iter().map(|component| component.same_rank))
    };
    a.groups.len() == b.groups.len()
        && a.indices.len() == b.indices.len()
        && a.interleaves() == b.interleaves()
        && groups.all(is_same_group)
}
