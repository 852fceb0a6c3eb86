"""Usage: check_records.py FOLDER…    every run_metadata.json below is as helpers/runs/run_metadata.schema.json says; 1 where one isn't"""

import json
import os
import sys
from pathlib import Path

import jsonschema

SCHEMA = json.loads((Path(__file__).parents[1] / "helpers" / "runs" / "run_metadata.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def faults(record: object) -> list[str]:
    """What a record has that its schema doesn't allow, and what it lacks."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(record)]


def main() -> int:
    bad = 0
    for folder in sys.argv[1:]:
        for path, _, files in os.walk(folder):
            if "run_metadata.json" in files:
                file = Path(path, "run_metadata.json")
                for fault in faults(json.loads(file.read_text(encoding="utf-8"))):
                    print(f"{file}: {fault}")
                    bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
