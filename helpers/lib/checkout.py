"""Where this project lies: its checkout, or a run's sealed copy of it. Needs nothing but Python."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "templates" / "tasks"  # those that come with this project
