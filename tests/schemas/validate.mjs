// Validates the documents of a file with ajv in strict mode, and prints one letter for each: `v` if
// it is valid, `i` if not.
//
//     node validate.mjs AJV_DIRECTORY SCHEMA DOCUMENTS

import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [directory, schema, documents] = process.argv.slice(2);
const require = createRequire(join(directory, "package.json"));
const Ajv2020 = require("ajv/dist/2020").default;

// In strict mode ajv does not compile a schema with a keyword or a format that it does not know.
const ajv = new Ajv2020({ strict: true, strictRequired: false, allErrors: false });
const validate = ajv.compile(JSON.parse(readFileSync(schema)));
const valid = JSON.parse(readFileSync(documents)).map((document) => (validate(document) ? "v" : "i"));
writeSync(1, valid.join(""));
