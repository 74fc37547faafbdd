//! README.txt of an archive: what it is, and how to check it.

use forge_contract::artifact::ManifestDocument;
use forge_documents::document::{ENVELOPE_JSON, RESULT_JSON};
use forge_store::Store;

use crate::archive::STORE_FOLDER;

/// The text for a job.
pub fn render(manifest: &ManifestDocument) -> String {
    let ManifestDocument { job_id, result, replay_key, kernel, .. } = manifest;
    let path = |name: &str| {
        let reference = manifest.artifacts.iter().find(|artifact| artifact.name == name);
        reference.map(|reference| format!("{STORE_FOLDER}/{}", reference.key()))
    };
    let manifest_path = format!("{STORE_FOLDER}/{}", Store::manifest_key(job_id));
    let envelope = path(ENVELOPE_JSON).unwrap_or_default();
    let by_hand = path(RESULT_JSON).map_or_else(
        || "   The job did not keep result.json.\n".to_owned(),
        |path| format!("   sha256sum {path}\n   must print the result hash above.\n"),
    );
    format!(
        "\
A job of Forge Kernel, with everything that is needed to check its result.

Job          {job_id}
Result hash  {result}
Replay key   {replay_key}
Kernel       version {kernel}

The result hash is the SHA-256 of result.json. Every file below {STORE_FOLDER}/artifacts lies
under the SHA-256 of its content. The manifest lists them. envelope.json is the whole
model: read it first, since everything else follows from it.

How to check
1. With forge of kernel version {kernel}, without extracting:
   forge audit ARCHIVE --full
   executes the whole job again. The verdict `proved` means that the result follows from
   the envelope. After extracting, the same as
   forge audit {manifest_path} --full
2. By hand:
{by_hand}\
3. With the second implementation, in Python 3.9 or newer without any package. It is slow:
   give --max-iterations as many iterations as the envelope has.
   python3 verifier/forge_reader.py result {envelope} \\
     --max-iterations N | sha256sum
   must print the result hash above.

Content
README.txt       this text, which nothing checks
{STORE_FOLDER}/           the job as it is in its store: manifest, page and artifacts
program.bin      the compiled program; result.json states its SHA-256
schemas/         JSON Schemas of all documents
verifier/        the second implementation
"
    )
}
