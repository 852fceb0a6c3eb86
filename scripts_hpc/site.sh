#!/usr/bin/env bash
# Usage: scripts_hpc/site.sh init [NAME] [--yes]
#        scripts_hpc/site.sh list
#        scripts_hpc/site.sh show|validate [NAME] [--site NAME] [--set KEY=VALUE]…
#
#   init       writes site-config/<name>.yaml from what this cluster says of itself, and says of each value who told it, or that it is a
#              guess: partitions, account and QOS, GPUs, times, folders, container program, limits. Run it on a login node. Nothing is
#              submitted; sbatch --test-only is asked what it would take. At a terminal it asks only what can't be known, with a
#              default. NAME is by default the cluster's own name; a file that is there is left as it is
#   list       the sites in site-config/; * marks the one that would be used here
#   show       the resolved configuration of a site, all layers merged
#   validate   checks a site, models.yaml and agents.yaml; every problem is printed
#
#   --yes              ask nothing
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key, e.g. --set paths.data=/scratch/me
#   -h, --help         this text
#
# Exit codes: 0 done; 2 usage or configuration; 3 the scheduler doesn't answer, or a disk is full; 130 interrupted.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "init list show validate" "$@"
start::python helpers site "$@"
