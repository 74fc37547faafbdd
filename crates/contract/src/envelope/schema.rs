//! The JSON Schema of [`Seed`], which deriving cannot express: the mode may be left out, and decides about the value.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Seed;

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the random numbers come from. One seed and one model always give the same numbers.",
            "type": "object",
            "properties": {
                "mode": {
                    "description": "What the seed is made of.",
                    "default": "derived",
                    "oneOf": [
                        {
                            "const": "derived",
                            "description": "Made of the op and the model's args: another model sees other numbers.",
                        },
                        {
                            "const": "explicit",
                            "description":
                                "Made of `value` alone: two models under one value see common random numbers.",
                        },
                        {"type": "null"},
                    ],
                },
                "value": {
                    "description": "The text of an explicit seed: 1 to 1,024 bytes of UTF-8. Not allowed with `derived`.",
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
