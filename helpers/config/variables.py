"""Environment variables that a person gives to an agent: which names are free for that, and which values."""

from __future__ import annotations

from helpers.lib import private

# the names by which a job tells an agent of its task and its servers (scripts_hpc/lib/agent.sh)
OURS = (
    "AGENT_",
    "GRADING_",
    "MODEL_",
    "FEEDBACK_",
    "CODE_MODEL",
    "OPENAI_",
    "HPC_",
    "SLURM_",
    "APPTAINER",
    "SINGULARITY",
)
OURS_WHOLE = (
    "COMPETITION_ID",
    "TIME_LIMIT_SECS",
    "STEP_LIMIT",
    "TOKEN_LIMIT",
    "SEED",
    "ENDPOINTS_FILE",
    "PATH",
    "HOME",
    "LD_PRELOAD",
)


def unfit(name: str, value: str) -> str | None:
    """Why a variable can't be given to an agent, beginning with its name; None where it can."""
    if name.startswith(OURS) or name.endswith("_DIR") or name in OURS_WHOLE:
        return f"{name} carries what jobs tell agents: choose another name"
    if private.is_secret(name, value):
        return f"{name} looks like a secret, which others can read there: put it into .env"
    return None
