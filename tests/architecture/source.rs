//! The source files of the workspace, parsed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use syn::{Attribute, File};

/// A source file of a crate's library or binary.
pub struct SourceFile {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// Its module path within the crate; empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    /// Its syntax tree.
    pub syntax: File,
}

/// The members of the workspace, as `cargo metadata` describes them.
pub fn packages() -> Vec<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The kinds of a target, as in `["lib"]`.
pub fn target_kinds(target: &Value) -> Vec<&str> {
    target["kind"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// Every member with a library or a binary, of which the library comes first: its name and its
/// source files, test modules excluded.
pub fn members() -> Vec<(String, Vec<SourceFile>)> {
    let mut members = Vec::new();
    for package in packages() {
        let targets = package["targets"].as_array().unwrap().iter();
        let mut roots = targets
            .filter(|target| target_kinds(target).iter().any(|kind| ["lib", "cdylib", "bin"].contains(kind)));
        let Some(target) = roots.next() else { continue };
        let root = Path::new(target["src_path"].as_str().unwrap());
        let mut files = Vec::new();
        read_module(root, &mut Vec::new(), root.parent().unwrap(), &mut files);
        members.push((package["name"].as_str().unwrap().to_owned(), files));
    }
    assert!(members.len() > 5, "the members were not found");
    members
}

/// Reads a file and, by its `mod` items, the files below it.
fn read_module(path: &Path, module: &mut Vec<String>, folder: &Path, files: &mut Vec<SourceFile>) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for item in &syntax.items {
        let syn::Item::Mod(child) = item else { continue };
        if child.content.is_some() || is_test(&child.attrs) {
            continue;
        }
        let name = child.ident.to_string();
        let flat = folder.join(format!("{name}.rs"));
        let nested = folder.join(&name).join("mod.rs");
        let file = if flat.exists() { flat } else { nested };
        module.push(name.clone());
        read_module(&file, module, &folder.join(&name), files);
        module.pop();
    }
    files.push(SourceFile { path: path.to_owned(), module: module.clone(), syntax });
}

/// Whether an item is compiled for tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    let is_cfg_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
    };
    attributes.iter().any(|attribute| is_cfg_test(attribute) || attribute.path().is_ident("test"))
}
