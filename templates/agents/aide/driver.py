"""Runs AIDE (aideml) on one competition, within a step limit and a deadline, and leaves no process behind.

Usage: driver.py (no arguments; reads the variables that the host sets for every agent, see start.sh)
Exit code: 0 when all steps are done or the time is over, 1 otherwise, with one line on stderr.
"""

import sys
from types import ModuleType

from agent_driver import drive
from agent_settings import Settings


def spare_imports() -> None:
    """Stand in for the parts of AIDE that nothing here uses: four companies' clients and a plotter, half of its start-up."""
    backends = [f"backend.backend_{name}" for name in ("anthropic", "gemini", "openai", "openrouter")]
    for name in (f"aide.{part}" for part in (*backends, "utils.tree_export")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].query = None  # AIDE lists it; aide_models.py takes its place


def work(settings: Settings) -> int:
    spare_imports()
    import aide_worker  # takes seconds, and isn't needed by the watcher

    return aide_worker.run(settings)


if __name__ == "__main__":
    sys.exit(drive(__doc__, "AIDE", work))
