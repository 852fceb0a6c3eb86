#!/usr/bin/env bash
# Usage: scripts_hpc/render.sh [--site NAME] [--set KEY=VALUE]… [--output DIR]
#
# Writes every job script (slurm_*.sh) and container definition (*.def) of a site to rendered/<site>/.
# Each script works alone with sbatch, for example:
#   sbatch rendered/della/slurm_grading_server.sh spaceship-titanic
#   sbatch rendered/della/slurm_vllm_30b.sh
#   sbatch rendered/della/slurm_agent_aide.sh spaceship-titanic auto:GRADING_JOB auto:MODEL_JOB
#
# Options
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set partitions.gpu.name=gpu
#   --output DIR       write to DIR instead
#   -h, --help         this text
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::python helpers render "$@"
