#!/usr/bin/env bash
# Usage: scripts_hpc/download_model.sh MODEL [--site NAME] [--revision REVISION] [--set KEY=VALUE]…
#
# Downloads the weights of a model of site-config/models.yaml into the site's model cache (paths.models), with huggingface_hub.
# Run it on a login node, before the first job, where compute nodes don't reach the internet. Run it again after an
# interruption: files that are complete stay, and a lost connection goes on where it was.
#
#   --site NAME           a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --revision REVISION   a branch, tag or commit instead of the one in models.yaml
#   --set KEY=VALUE       override a key of the site, e.g. --set paths.models=/scratch/me/models
#   -h, --help            this text
#
# A token for gated models: HF_TOKEN in the environment or in .env. It ends with the commit, which `revision:` in models.yaml pins.
# Exit codes: 0 the weights are there (or the model has none); 2 usage or configuration; 3 network or disk; 130 interrupted.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
common::check_shell
for argument in "$@"; do
  case $argument in -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;; esac
done
# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
python::ensure core
exec "$PYTHON" -m helpers.download_model "$@"
