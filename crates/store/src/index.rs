//! Renders the page `jobs/<job_id>/index.html`, which lists a job's artifacts in a browser.
//!
//! Plain HTML without scripts or external resources. Links are relative, so the page also works in
//! a copy of the store.

use forge_contract::artifact::ManifestDocument;
use maud::{DOCTYPE, PreEscaped, html};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}\
h2{font-size:1.1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem 1rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.number,.figures td,.figures tr:first-child th+th{text-align:right;font-variant-numeric:tabular-nums}\
.figures td{white-space:nowrap}\
.figures th,.figures td{font-size:.9rem}\
.figures tr:not(:first-child) th{font-weight:normal}\
.scroll{overflow-x:auto}\
h1,h2{overflow-wrap:anywhere}\
code{font-size:.8rem;overflow-wrap:anywhere}";

/// What the page says of the result.
#[derive(Debug, Default)]
pub struct IndexContent {
    /// Pairs of label and text.
    pub headline: Vec<(String, String)>,
    /// Tables of figures.
    pub tables: Vec<IndexTable>,
}

/// A table of the page. Every row has as many cells as there are columns: a label, and figures.
#[derive(Debug)]
pub struct IndexTable {
    /// Title.
    pub title: String,
    /// Column headings.
    pub header: Vec<&'static str>,
    /// Cells by row.
    pub rows: Vec<Vec<String>>,
}

/// Renders the page of a completed job.
pub fn render_page(manifest: &ManifestDocument, content: &IndexContent) -> String {
    let title = format!("Forge job {}", manifest.job_id);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                table {
                    @for (label, text) in &content.headline {
                        tr { th { (label) } td { (text) } }
                    }
                    tr { th { "Replay key" } td { code { (manifest.replay_key) } } }
                    tr { th { "SHA-256 of result.json" } td { code { (manifest.result) } } }
                }
                @for table in &content.tables {
                    h2 { (table.title) }
                    div class="scroll" tabindex="0" {
                        table class="figures" {
                            tr { @for heading in &table.header { th { (heading) } } }
                            @for row in &table.rows {
                                tr {
                                    @for (column, cell) in row.iter().enumerate() {
                                        @if column == 0 { th { (cell) } } @else { td { (cell) } }
                                    }
                                }
                            }
                        }
                    }
                }
                h2 { "Artifacts" }
                table {
                    tr { th { "Name" } th { "Bytes" } th { "SHA-256" } }
                    @for artifact in &manifest.artifacts {
                        tr {
                            td { a href={ "../../" (artifact.key()) } { (artifact.name) } }
                            td class="number" { (artifact.size) }
                            td { code { (artifact.sha256) } }
                        }
                    }
                }
                p {
                    "All of them are named in " a href="manifest.json" { "manifest.json" } "; "
                    code { "forge audit manifest.json" } " checks them."
                }
                p {
                    "The links lead to other objects of the same store. A presigned URL is for one object, so from a \
                     page that was opened by one they answer 403: sign the object "
                    code { "artifacts/sha256/SHA-256/NAME" } " as well, or fetch all of them with "
                    code { "forge artifacts get " (manifest.job_id) " --store s3://BUCKET" } "."
                }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use forge_contract::{
        artifact::ArtifactReference,
        digest::Digest,
        ids::{JobUid, ReplayKey},
    };

    use super::*;

    #[test]
    fn links_are_relative_and_text_is_escaped() {
        let hash = Digest::hash_parts(&[b"x"]);
        let artifact = ArtifactReference {
            name: "result.json".to_owned(),
            sha256: hash,
            size: 12,
            media_type: "application/json".to_owned(),
        };
        let manifest = ManifestDocument {
            schema: ManifestDocument::SCHEMA.to_owned(),
            job_id: "a-1".parse().unwrap(),
            job_uid: JobUid([1; 16]),
            job_key: hash,
            kernel: 1,
            replay_key: ReplayKey(hash),
            request: hash,
            result: hash,
            merkle_root: hash,
            shards: 1,
            artifacts: vec![artifact],
            signer: None,
            signature: None,
        };
        let table = IndexTable {
            title: "Lines, <EUR>".to_owned(),
            header: vec!["Line", "Mean"],
            rows: vec![vec!["<motor>".to_owned(), "5".to_owned()]],
        };
        let content = IndexContent {
            headline: vec![("Mean <annual> loss".to_owned(), "\"5\" & more".to_owned())],
            tables: vec![table],
        };
        let page = render_page(&manifest, &content);
        for part in ["<h2>Lines, &lt;EUR&gt;</h2>", "<th>&lt;motor&gt;</th><td>5</td>"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains(&format!("href=\"../../artifacts/sha256/{hash}/result.json\"")));
        assert!(page.contains("<th>Mean &lt;annual&gt; loss</th><td>&quot;5&quot; &amp; more</td>"));
        assert!(page.contains("forge artifacts get a-1 --store"));
        assert!(!page.contains("<script") && !page.contains("http"));
    }
}
