//! `forge schema`: JSON Schemas (draft 2020-12) of every document, made from the types that read and write them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use forge_contract::{
    agent::{AgentRecord, QuarantineRecord},
    artifact::{ErrorDocument, ExecutionsDocument, ManifestDocument, MetricsDocument, VerificationDocument},
    envelope::Envelope,
    job::JobRecord,
    plan::PlanDocument,
    quota::Quotas,
};
use forge_kernel::{
    result_document::ResultDocument,
    workload::{PROFILES, Profile},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{failure::Failure, output};

const EXAMPLES: &str = "\
Examples:
  forge schema
  forge schema envelope > envelope.schema.json
  forge schema --write schemas/v1

Editors that read JSON Schema check an envelope's args by its profile.";

/// Print the JSON Schemas of all documents
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SchemaArgs {
    /// The schema to print, such as envelope; without it, their names are listed
    name: Option<String>,
    /// Write all schemas to this directory
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

/// Carries out the command.
///
/// # Errors
/// There is no schema of that name, or a file cannot be written.
pub fn execute(args: &SchemaArgs) -> Result<(), Failure> {
    let schemas = all();
    if let Some(directory) = &args.write {
        return Ok(schemas.iter().try_for_each(|(name, schema)| write(directory, name, schema))?);
    }
    let Some(name) = &args.name else {
        let names: String = schemas.iter().map(|(name, _)| format!("{name}\n")).collect();
        return output::print(names.as_bytes());
    };
    match schemas.iter().find(|(known, _)| known == name) {
        Some((_, schema)) => output::print(text(schema).as_bytes()),
        None => {
            let names: Vec<_> = schemas.iter().map(|(name, _)| name.as_str()).collect();
            Err(Failure::Input(format!("there is no schema {name:?}; there are {}", names.join(", "))))
        }
    }
}

fn write(directory: &Path, name: &str, schema: &Value) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.schema.json"));
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be created", directory.display()))?;
    fs::write(&path, text(schema)).with_context(|| format!("{} cannot be written", path.display()))
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// Every schema by name.
pub(crate) fn all() -> Vec<(String, Value)> {
    let documents = [
        ("envelope", envelope()),
        ("plan", written::<PlanDocument>()),
        ("result", written::<ResultDocument>()),
        ("executions", written::<ExecutionsDocument>()),
        ("verification", written::<VerificationDocument>()),
        ("metrics", written::<MetricsDocument>()),
        ("manifest", written::<ManifestDocument>()),
        ("error", written::<ErrorDocument>()),
        ("job", written::<JobRecord>()),
        ("agent", written::<AgentRecord>()),
        ("quarantine", written::<QuarantineRecord>()),
        ("quotas", reader().into_root_schema_for::<Quotas>().to_value()),
    ];
    let args = PROFILES.iter().map(|profile| (format!("{}.args", profile.name), args(profile)));
    documents.map(|(name, schema)| (name.to_owned(), schema)).into_iter().chain(args).collect()
}

/// The schema of a document that Forge writes.
fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// What people write is read generously: an optional field may be left out.
fn reader() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

/// The envelope's schema, in which the profile decides about the args.
fn envelope() -> Value {
    let mut generator = reader();
    let args: Vec<_> = PROFILES.iter().map(|profile| (profile.args_schema)(&mut generator)).collect();
    let mut schema = generator.into_root_schema_for::<Envelope>().to_value();
    let known = |profile: &&Profile| {
        json!({"properties": {
            "name": {"const": profile.op},
            "version": {"const": profile.version},
            "profile": {"const": profile.name},
        }})
    };
    let ops: Vec<_> = PROFILES.iter().map(known).collect();
    let mut rules = vec![json!({"properties": {"op": {"anyOf": ops}}})];
    rules.extend(PROFILES.iter().zip(args).map(|(profile, args)| {
        let is_profile = json!({"properties": {"profile": {"const": profile.name}}, "required": ["profile"]});
        json!({
            "if": {"properties": {"op": is_profile}, "required": ["op"]},
            "then": {"properties": {"args": args}},
        })
    }));
    schema["title"] = "Forge envelope".into();
    schema["allOf"] = rules.into();
    schema
}

/// The schema of a profile's args alone.
fn args(profile: &Profile) -> Value {
    let mut generator = reader();
    let reference = (profile.args_schema)(&mut generator).to_value();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Forge args of {}@{} {}", profile.op, profile.version, profile.name),
        "$defs": generator.take_definitions(true),
    });
    for (key, value) in reference.as_object().into_iter().flatten() {
        schema[key.as_str()] = value.clone();
    }
    schema
}
