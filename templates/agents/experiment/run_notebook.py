"""Runs a notebook in the current folder and keeps it with its outputs, also those of one that fails.

Usage: run_notebook.py NOTEBOOK; the executed one lies in STATUS_DIR, under the same name.
Exit code: 0, or 1 with the cell's error on stderr.
"""

import os
import sys
from pathlib import Path


def main() -> int:
    source = Path(sys.argv[1])
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        print(f"{error.name} is not installed: notebooks need nbclient and ipykernel", file=sys.stderr)
        return 1
    notebook = nbformat.read(source, as_version=4)
    # whatever kernel it was written with: this Python's
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": os.getcwd()}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error.traceback or error, file=sys.stderr)
        print(f"{error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    finally:
        nbformat.write(notebook, Path(os.environ["STATUS_DIR"], source.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
