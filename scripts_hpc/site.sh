#!/usr/bin/env bash
# Usage: scripts_hpc/site.sh init [NAME] [--yes]
#        scripts_hpc/site.sh doctor [NAME] [--gpu] [--write] [--json] [--model NAME]… [--wait MINUTES] [--site NAME] [--set KEY=VALUE]…
#        scripts_hpc/site.sh list [--json]
#        scripts_hpc/site.sh show|validate [NAME] [--site NAME] [--set KEY=VALUE]…
#
#   init       writes site-config/<name>.yaml for this cluster. Run it on a login node: it asks the cluster for partitions, account and QOS,
#              GPUs, times, folders, container program and limits, and notes at each value where it comes from, or that it is a guess. It
#              submits nothing; it only asks sbatch --test-only which jobs it would accept. At a terminal it asks you what it can't find
#              out, with a default. NAME is by default the cluster's own name. A file that is there already is left as it is
#   doctor     says whether a run would work on a site, in a table of ok, warning, failure and not checked. First it checks what this
#              machine can tell: versions, disk space, permissions, images, weights, data, keys, and whether sbatch --test-only accepts
#              the jobs. Then probe jobs of under a minute check the nodes: shared folders, clocks, containers, scratch, memory, the names
#              by which nodes reach each other, the internet. It leaves nothing behind but its result,
#              <paths.runs>/.doctor/<site>.json, which run_workflow.sh looks for
#   list       the sites in site-config/; * marks the one that would be used here
#   show       the resolved configuration of a site, all layers merged
#   validate   checks a site, models.yaml and agents.yaml; every problem is printed
#
#   --yes              ask nothing
#   --gpu              doctor: send a probe to a GPU node too, for about a minute; its cost is told first
#   --model NAME       doctor: a model that your runs need, besides replay; if something of it is missing, that is a failure and not a warning
#   --wait MINUTES     doctor: how long a probe may wait in the queue (10)
#   --write            doctor: write measured values into the site's own file, where the measurement leaves no doubt
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
