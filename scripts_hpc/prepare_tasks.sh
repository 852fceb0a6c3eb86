#!/usr/bin/env bash
# Usage: scripts_hpc/prepare_tasks.sh TASK… | --jobs FILE | --task-list FILE | --all [options]
#        scripts_hpc/prepare_tasks.sh --attach FOLDER
#
# Prepares many tasks at once, in the folder paths.data of the site. On Slurm this is done by job arrays, within the site's limits and in
# the preparation container; the command itself only watches them, and writes task_preparation.log and failed_tasks.txt into the folder
# where it was started. Without Slurm and containers it is done on this machine, as by `python -m helpers.prepare_all_tasks`.
#
#   TASK               a task's id: of this project, of your own (paths.tasks), of mle-bench, or of BioML-bench (folder/task)
#   --all              all tasks of this project and your own (the default); tasks of the benchmarks must be named one by one
#   --jobs FILE        a file with a line `agent,task_id` for each task
#   --task-list FILE   a file with a task's id on each line, e.g. failed_tasks.txt
#
# Options
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set jobs.prepare.time=08:00:00 (repeatable)
#   --threads N        tasks at once in one job (default: jobs.prepare.cpus of the site; without jobs 4)
#   --data-dir FOLDER, --tasks-dir FOLDER   instead of the site's paths.data, paths.tasks
#   --backend NAME     own, local, repository, mlebench or biomlbench, instead of the one that the task's id stands for
#   --raw FILE|FOLDER  for one task: its raw files, as the zip that you downloaded from Kaggle on any machine, or as a folder with the
#                      files. It is prepared with mle-bench's own code and checksums, without Kaggle and without the internet
#   --force            prepare tasks again that are prepared already
#   --keep-raw, --overwrite-checksums, --overwrite-leaderboard, --skip-verification   as of mlebench and biomlbench; also =false
#   --retries N        tries after a network fault   --retry-wait SECONDS   before the first of them
#   --timeout SECONDS  for each task                 --min-free GB          start no task with less on the disk
#   --log-file FILE, --failed-tasks FILE    instead of task_preparation.log, failed_tasks.txt
#   --detach           submit, print the preparation's folder, and leave
#   --attach FOLDER    watch a preparation again
#   --dry-run          check everything and show the jobs; submit nothing
#   -h, --help         this text
#
# Where compute nodes don't reach the internet, tasks that must be downloaded are left out. Prepare those on a login node: with
# --set scheduler.kind=local the same container runs there, as a process. Kaggle's credentials are found where its own client finds them:
# KAGGLE_API_TOKEN, ~/.kaggle/access_token, kaggle.json in ~/.kaggle, ~/.config/kaggle or $KAGGLE_CONFIG_DIR.
#
# Ctrl-C ends all jobs. failed_tasks.txt lists, at every moment, the tasks that are not prepared yet.
# Exit codes: 0 all are prepared; 1 a task failed; 2 usage or configuration; 3 infrastructure (rejected); 130 interrupted.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
# shellcheck source=scripts_hpc/lib/submit.sh
source "$ROOT/scripts_hpc/lib/submit.sh"
common::check_shell

COMMAND_LINE=$(printf '%q ' "$0" "$@")
ARGUMENTS=() PLAN_OPTIONS=() DETACH=0 ATTACH=''
while (($#)); do
  case $1 in
    --attach=*) ATTACH=${1#*=} ;;
    --attach)
      (($# >= 2)) || die 2 "--attach needs the folder of a preparation"
      ATTACH=$2
      shift
      ;;
    --detach) DETACH=1 ;;
    --dry-run) PLAN_OPTIONS=(--dry-run) ;;
    -h | --help)
      common::usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) ARGUMENTS+=("$1") ;; # those of helpers.prepare_all_tasks
  esac
  shift
done

# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"

python::ensure core
# from here on, as bash can't be interrupted while it reads a file with "$(…)" in it: the trap would be parsed in its midst
submit::begin

if [[ -n $ATTACH ]]; then
  [[ -d $ATTACH ]] || ATTACH=$ROOT/runs/$ATTACH
  [[ -f $ATTACH/preparation.json ]] || die 2 "--attach: $ATTACH is no preparation of this tool (no preparation.json in it)"
  submit::watch "$PYTHON" -m helpers.jobs.prepare_array watch "$ATTACH"
fi

# ---- check everything, and make the preparation's folder

DIRECT=0
submit::plan "$PYTHON" -m helpers.jobs.prepare_array plan --command-line "$COMMAND_LINE" \
  ${PLAN_OPTIONS[@]+"${PLAN_OPTIONS[@]}"} -- ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}
if ((DIRECT)); then
  ((DETACH == 0)) || die 2 "--detach: there are no jobs to leave, as this site has neither Slurm nor containers"
  submit::watch "$PYTHON" -m helpers.prepare_all_tasks ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}
fi

# ---- submit one array after the other

submit::open "$PREPARATION"
FIRST=0
for ELEMENTS in ${ARRAYS[@]+"${ARRAYS[@]}"}; do
  submit::array prepare "$ELEMENTS" "$PREPARATION/jobs/prepare.sh" "$FIRST"
  FIRST=$((FIRST + ELEMENTS))
done
submit::close

submit::hand_over preparation "$PREPARATION" "$DETACH" "$PYTHON" -m helpers.jobs.prepare_array watch "$PREPARATION"
