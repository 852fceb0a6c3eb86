#!/usr/bin/env bash
# Usage: scripts_hpc/results.sh export [RUNS…] [-o FILE] [--json] [--all] [--mlflow [URI]]
#        scripts_hpc/results.sh columns
#
#   export     results of many runs in one table, a row a run. RUNS: the folder of a workflow, of many, or of one run; default: all of
#              the site's (paths.runs)
#   columns    what counts as a row, and what each column says
#
#   -o, --output FILE   write there; default: standard output
#   --json              a JSON list instead of CSV
#   --all               a row for every run, lost and cancelled tries too
#   --mlflow [URI]      log each row to MLflow, once, and print no table (unless -o): a server, or a database file; default:
#                       sqlite:///mlflow.db, here
#   --site NAME         a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE     override a key of the site, e.g. --set paths.runs=/scratch/me/runs
#   -h, --help          this text
#
# Exit codes: 0 all was read; 2 usage, or nothing found; 3 something is broken (see stderr; no row is lost).
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "export columns" "$@"
[[ $1 == export ]] || set -- export --help
start::python helpers.export_results "${@:2}"
