//! `forge schema`: prints the JSON Schemas (draft 2020-12) of all documents, generated from the
//! types that read and write them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use forge_contract::{
    agent::{AgentRecord, PoolQuarantineRecord, QuarantineRecord},
    artifact::{ErrorDocument, ExecutionsDocument, ManifestDocument, MetricsDocument, VerificationDocument},
    envelope::{Envelope, SCHEMA_MEMBER},
    job::JobRecord,
    manifest_log::LogEntryDocument,
    plan::PlanDocument,
    quota::Quotas,
};
use forge_kernel::{
    result_document::ResultDocument,
    workload::{PROFILES, Profile},
};
use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Value, json};

use crate::{error::CommandError, local_path::local_path, output};

const EXAMPLES: &str = "\
Examples:
  forge schema
  forge schema envelope > envelope.schema.json
  forge schema --write schemas/v1

With the schema `envelope`, an editor that supports JSON Schema also checks the args of the chosen profile.";

/// Print the JSON Schema of a document
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SchemaArgs {
    /// Schema to print, such as envelope [default: list all names]
    name: Option<String>,
    /// Write all schemas to this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "name", value_parser = local_path())]
    write: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// There is no schema of that name, or a file cannot be written.
pub fn execute(args: &SchemaArgs) -> Result<(), CommandError> {
    let schemas = all_schemas();
    if let Some(directory) = &args.write {
        return Ok(schemas.iter().try_for_each(|(name, schema)| write_schema(directory, name, schema))?);
    }
    let Some(name) = &args.name else {
        let names: String = schemas.iter().map(|(name, _)| format!("{name}\n")).collect();
        return output::print(names.as_bytes());
    };
    match schemas.iter().find(|(known, _)| known == name) {
        Some((_, schema)) => output::print(output::to_json_document(schema).as_bytes()),
        None => {
            let names: Vec<_> = schemas.iter().map(|(name, _)| name.as_str()).collect();
            Err(CommandError::Input(format!(
                "unknown schema {name:?}; available schemas: {}",
                names.join(", ")
            )))
        }
    }
}

fn write_schema(directory: &Path, name: &str, schema: &Value) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.schema.json"));
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    fs::write(&path, output::to_json_document(schema))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Every schema with its name.
pub(crate) fn all_schemas() -> Vec<(String, Value)> {
    let documents = [
        ("envelope", envelope_schema()),
        ("plan", output_schema::<PlanDocument>()),
        ("result", output_schema::<ResultDocument>()),
        ("executions", output_schema::<ExecutionsDocument>()),
        ("verification", output_schema::<VerificationDocument>()),
        ("metrics", output_schema::<MetricsDocument>()),
        ("manifest", output_schema::<ManifestDocument>()),
        ("error", output_schema::<ErrorDocument>()),
        ("log-entry", output_schema::<LogEntryDocument>()),
        ("job", output_schema::<JobRecord>()),
        ("agent", output_schema::<AgentRecord>()),
        ("quarantine", output_schema::<QuarantineRecord>()),
        ("pool-quarantine", output_schema::<PoolQuarantineRecord>()),
        ("quotas", input_generator().into_root_schema_for::<Quotas>().to_value()),
    ];
    let args = PROFILES.iter().map(|profile| (format!("{}.args", profile.name), args_schema(profile)));
    documents.map(|(name, schema)| (name.to_owned(), schema)).into_iter().chain(args).collect()
}

/// The schema of a document that Forge writes: fields that are always written are required.
fn output_schema<T: JsonSchema>() -> Value {
    settings().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// A generator for documents that people write: fields with a default are optional.
fn input_generator() -> SchemaGenerator {
    settings().for_deserialize().into_generator()
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with_transform(RecursiveTransform(remove_number_format))
}

/// Removes `format` of numbers, such as `double`: JSON Schema defines none, so strict validators
/// refuse a schema that has one. A property named `format` has an object, and stays.
fn remove_number_format(schema: &mut Schema) {
    if schema
        .get("format")
        .is_some_and(|format| matches!(format.as_str(), Some("double" | "uint32" | "uint64")))
    {
        schema.remove("format");
    }
}

/// The schema of the envelope, in which the profile selects the schema of the args.
fn envelope_schema() -> Value {
    let mut generator = input_generator();
    let args: Vec<_> = PROFILES.iter().map(|profile| (profile.args_schema)(&mut generator)).collect();
    let mut schema = generator.into_root_schema_for::<Envelope>().to_value();
    schema["properties"][SCHEMA_MEMBER] = json!({
        "description": "Location of this schema, by which editors find it. Not kept, and no part of the job.",
        "type": ["string", "null"],
    });
    let op = |profile: &&Profile| {
        json!({"type": "object", "properties": {
            "name": {"const": profile.op},
            "version": {"const": profile.version},
            "profile": {"const": profile.name},
        }})
    };
    let ops: Vec<_> = PROFILES.iter().map(op).collect();
    let mut rules = vec![json!({"properties": {"op": {"anyOf": ops}}})];
    rules.extend(PROFILES.iter().zip(args).map(|(profile, args)| {
        let is_profile = json!({
            "type": "object",
            "properties": {"profile": {"const": profile.name}},
            "required": ["profile"],
        });
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
fn args_schema(profile: &Profile) -> Value {
    let mut generator = input_generator();
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
