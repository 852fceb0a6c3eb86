"""`make docs`: runs the README's first command in a fresh copy of the checkout, and draws what it printed as docs/first-run.svg.

Nothing is edited: the lines are the command's own, into a pipe, and only the copy's folder is called ~/hpc-agent-bench. With HPC_SITE=local
it does on a machine that has Slurm what it does on one without.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "./scripts_hpc/run_workflow.sh"
COLUMNS = 100


def record(checkout: Path) -> tuple[str, int]:
    """What the command prints in a checkout, and its exit code."""
    done = subprocess.run(
        [COMMAND],
        cwd=checkout,
        env=os.environ | {"HPC_SITE": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout.replace(str(checkout), "~/hpc-agent-bench"), done.returncode


def draw(said: str, path: Path) -> None:
    """A terminal's picture of a text. path: of the SVG."""
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w", encoding="utf-8"))
    console.print(Text("$ ", "bold green") + Text(COMMAND, "bold"))
    console.print(Text.from_ansi(said))
    svg = console.export_svg(title="hpc-agent-bench", unique_id="first-run")
    # fonts of the reader's own machine: a page that is read offline asks nobody for them
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hab-docs.") as folder:
        checkout = Path(folder, "hpc-agent-bench")
        subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
        said, code = record(checkout)
    print(said, end="")
    if code:
        print(f"error: {COMMAND} ended with {code}: docs/first-run.svg is left as it was", file=sys.stderr)
        return 1
    draw(said, ROOT / "docs" / "first-run.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
