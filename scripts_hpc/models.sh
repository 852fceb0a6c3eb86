#!/usr/bin/env bash
# Usage: scripts_hpc/models.sh list [--json] [--site NAME] [--set KEY=VALUE]…
#        scripts_hpc/models.sh download MODEL [--revision REVISION] [--site NAME] [--set KEY=VALUE]…
#
#   list       the models of site-config/models.yaml as they are on a site: engine, GPUs, context, and whether their weights are there
#   download   downloads the weights of a model into the site's model cache (paths.models), with huggingface_hub. Where compute nodes
#              don't reach the internet, run it on a login node before the first job. If it was interrupted, run it again: complete
#              files are kept, and a broken download goes on where it was
#
#   --site NAME           a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --revision REVISION   a branch, tag or commit instead of the one in models.yaml
#   --set KEY=VALUE       override a key of the site, e.g. --set paths.models=/scratch/me/models
#   --json                for programs
#   -h, --help            this text
#
# Gated models need a token: HF_TOKEN in the environment or in .env. In the end `download` tells the commit of the weights; write it as
# `revision:` into models.yaml, so that they stay the same.
# Exit codes: 0 done (download: the weights are there, or the model has none); 2 usage or configuration; 3 network or disk; 130 interrupted.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "list download" "$@"
[[ $1 == list ]] || start::python helpers.images.download_model "${@:2}"
start::python helpers models "$@"
