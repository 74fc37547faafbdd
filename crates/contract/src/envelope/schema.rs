//! JSON Schema of [`Seed`]. Derive macros cannot express it: `mode` is optional and determines
//! whether `value` is required.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::normal_form::Seed;

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Source of the random numbers. Equal seeds and equal models always give equal numbers.",
            "type": "object",
            "properties": {
                "mode": {
                    "description": "Source of the seed.",
                    "default": "derived",
                    "oneOf": [
                        {
                            "const": "derived",
                            "description": "Derived from the op and the model's args, so different models use different numbers.",
                        },
                        {
                            "const": "explicit",
                            "description":
                                "Derived from `value` alone, so two models with the same value use common random numbers.",
                        },
                        {"type": "null"},
                    ],
                },
                "value": {
                    "description": "Text of an explicit seed: 1 to 1,024 bytes of UTF-8. Not allowed with `derived`.",
                    "type": ["string", "null"],
                    "minLength": 1,
                    "maxLength": 1024,
                },
            },
            "additionalProperties": false,
            "if": {"properties": {"mode": {"const": "explicit"}}, "required": ["mode"]},
            "then": {"properties": {"value": {"type": "string"}}, "required": ["value"]},
            "else": {"properties": {"value": {"type": "null"}}},
        })
    }
}
