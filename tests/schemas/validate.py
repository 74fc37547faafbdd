"""Validates the documents of a file with Python's jsonschema, and prints one letter for each: `v` if
it is valid, `i` if not.

    python validate.py SCHEMA DOCUMENTS
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

schema, documents = (json.loads(Path(path).read_text()) for path in sys.argv[1:])
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
print("".join("v" if validator.is_valid(document) else "i" for document in documents))
