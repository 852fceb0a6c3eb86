#!/usr/bin/env bash
# Usage: scripts_hpc/site.sh init [NAME] [--yes]
#        scripts_hpc/site.sh doctor [NAME] [--gpu] [--write] [--json] [--model NAME]… [--wait MINUTES] [--site NAME] [--set KEY=VALUE]…
#        scripts_hpc/site.sh list [--json]
#        scripts_hpc/site.sh show|validate [NAME] [--site NAME] [--set KEY=VALUE]…
#
#   init       writes site-config/<name>.yaml from what this cluster says of itself, and says of each value who told it, or that it is a
#              guess: partitions, account and QOS, GPUs, times, folders, container program, limits. Run it on a login node. Nothing is
#              submitted; sbatch --test-only is asked what it would take. At a terminal it asks only what can't be known, with a
#              default. NAME is by default the cluster's own name; a file that is there is left as it is
#   doctor     says whether a run would work there, in a table of ok, warning, failure and not checked: first what can be seen from here
#              (versions, room, rights, images, weights, data, keys, what sbatch --test-only takes), then what probe jobs of under a
#              minute see on nodes (folders that all nodes share, clocks, containers, scratch, memory, names by which nodes reach one
#              another, the internet). It leaves nothing behind but its result, <paths.runs>/.doctor/<site>.json, which
#              run_workflow.sh looks for
#   list       the sites in site-config/; * marks the one that would be used here
#   show       the resolved configuration of a site, all layers merged
#   validate   checks a site, models.yaml and agents.yaml; every problem is printed
#
#   --yes              ask nothing
#   --gpu              doctor: a probe on a GPU node too, for about a minute; its price is told first
#   --model NAME       doctor: a model that runs need, beside replay; what it lacks is a failure then, not a warning
#   --wait MINUTES     doctor: how long a probe may wait in the queue (10)
#   --write            doctor: put the values that were measured, and are sure, into the site's own file
#   --json             doctor, list: for programs
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key, e.g. --set paths.data=/scratch/me
#   -h, --help         this text
#
# Exit codes: 0 done (doctor: a run would work); 2 usage or configuration; 3 the scheduler doesn't answer, a disk is full, or (doctor) a run
# would not work; 130 interrupted, with all jobs ended.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "init doctor list show validate" "$@"
if [[ $1 == doctor ]]; then
  # shellcheck source=scripts_hpc/lib/doctor.sh
  source "$ROOT/scripts_hpc/lib/doctor.sh"
  doctor::run "${@:2}"
fi
start::python helpers site "$@"
