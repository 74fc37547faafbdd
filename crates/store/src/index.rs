//! Renders the page `jobs/<job_id>/index.html`, which lists a job's artifacts in a browser.
//!
//! Plain HTML without scripts or external resources. Links are relative, so the page also works in
//! a copy of the store.

use std::fmt::Write as _;

use forge_contract::artifact::ManifestDocument;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}\
h2{font-size:1.1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem 1rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.number{text-align:right;font-variant-numeric:tabular-nums}\
code{font-size:.8rem;overflow-wrap:anywhere}";

/// Renders the page of a completed job. `headline` holds pairs of label and text.
pub fn render_page(manifest: &ManifestDocument, headline: &[(String, String)]) -> String {
    let job = escape(manifest.job_id.as_str());
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Forge job {job}</title>\n\
         <style>{STYLE}</style>\n<h1>Forge job {job}</h1>\n<table>\n"
    );
    let replay_key = manifest.replay_key.to_string();
    let result = manifest.result.to_string();
    let facts = [("Replay key", &replay_key), ("SHA-256 of result.json", &result)];
    let rows = headline.iter().map(|(label, text)| (label.as_str(), text, false));
    for (label, text, code) in rows.chain(facts.map(|(label, text)| (label, text, true))) {
        let (label, text) = (escape(label), escape(text));
        let text = if code { format!("<code>{text}</code>") } else { text };
        push(&mut html, format_args!("<tr><th>{label}</th><td>{text}</td></tr>\n"));
    }
    html.push_str(
        "</table>\n<h2>Artifacts</h2>\n<table>\n<tr><th>Name</th><th>Bytes</th><th>SHA-256</th></tr>\n",
    );
    for artifact in &manifest.artifacts {
        push(
            &mut html,
            format_args!(
                "<tr><td><a href=\"../../{}\">{}</a></td><td class=\"number\">{}</td><td><code>{}</code></td></tr>\n",
                escape(&artifact.key()),
                escape(&artifact.name),
                artifact.size,
                artifact.sha256
            ),
        );
    }
    html.push_str("</table>\n<p>All of them are named in <a href=\"manifest.json\">manifest.json</a>; ");
    html.push_str("<code>forge audit manifest.json</code> checks them.</p>\n</html>\n");
    html
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = html.write_fmt(text);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use forge_contract::{artifact::ArtifactReference, digest::Digest, ids::ReplayKey};

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
        let page = render_page(&manifest, &[("Mean <annual> loss".to_owned(), "\"5\" & more".to_owned())]);
        assert!(page.contains(&format!("href=\"../../artifacts/sha256/{hash}/result.json\"")));
        assert!(page.contains("<th>Mean &lt;annual&gt; loss</th><td>&quot;5&quot; &amp; more</td>"));
        assert!(!page.contains("<script") && !page.contains("http"));
    }
}
