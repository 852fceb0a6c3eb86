"""Time `python -m helpers.tasks.cli list`, beside one start of Python, and beside the same listing where pandas is imported first.

Exits 1 above the limit.
"""

from __future__ import annotations

import os
import sys
import tempfile

from bench_commands import best, told

LIMIT = 0.3
WITH_PANDAS = "import pandas, sys; from helpers.tasks import cli; sys.exit(cli.main(['list']))"


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    os.environ["HPC_SITE"] = "local"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HPC_PATHS__TASKS"] = folder  # somebody's own, of which there are none yet
        listing = best(11, sys.executable, "-m", "helpers.tasks.cli", "list")
        python = best(11, sys.executable, "-c", "pass")
        pandas = best(5, sys.executable, "-c", WITH_PANDAS)
    good = told("cli list", listing, python, "python -c pass", LIMIT)
    return 0 if told("cli list", listing, pandas, "the same after import pandas", LIMIT) and good else 1


if __name__ == "__main__":
    sys.exit(main())
