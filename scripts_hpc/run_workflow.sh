#!/usr/bin/env bash
# Usage: scripts_hpc/run_workflow.sh [COMPETITION [MODEL [GPU_PARTITION [CPU_PARTITION [on|off]]]]] [options]
#        scripts_hpc/run_workflow.sh --attach RUN
#
# Runs an agent on a competition. It submits three jobs that find each other: a grading server, which alone sees the answers, a model
# server, and the agent. Then it prints the score, what it cost, and where the files are. Without arguments, on a machine without Slurm, it
# runs the agent AIDE on the built-in task classification_basic with the model `replay`, which is not a language model.
#
#   COMPETITION        a prepared task, e.g. spaceship-titanic           MODEL   a name in site-config/models.yaml (30b)
#   GPU_PARTITION, CPU_PARTITION   instead of the site's; "" keeps it    on|off  the same as --cleanup
#
# Options
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set jobs.agent.cpus=16 (repeatable)
#   --model-set KEY=VALUE   change a key of the model for this run, as in site-config/models.yaml (repeatable), e.g.
#                      --model-set context_length=16384 --model-set vllm_args='--max-num-seqs 64'
#   --agent NAME       a name in site-config/agents.yaml (aide; for a repository mini-swe), or NAME/VARIANT, e.g. experiment/dev
#   --script FILE      what the agent `experiment` runs instead of its own pipeline (.py, .sh, .ipynb)
#   --prepare          prepare the data first where they are missing (tasks that come with this project: always)
#   --steps N          step limit of the agent          --time-limit SECONDS   its time limit
#   --rollouts N       that many agents at once, with seeds SEED, SEED+1, …
#   --seed SEED        of the first rollout (0)
#   --cleanup on|off   end the servers when the last agent is done (on); off keeps them for --reuse-*
#   --reuse-grading JOB|URL, --reuse-model JOB|URL   use a server that runs already; whether it ends afterwards is up to the command that
#                      started it
#   --detach           submit, print the run's folder, and leave
#   --attach RUN       watch a run again (its folder)
#   --dry-run          check everything and show the jobs; submit nothing
#   --json             the results as JSON on standard output
#   --yes              don't ask before a run that could cost many GPU-hours
#   -h, --help         this text
#
# Ctrl-C ends all jobs of the run. Exit codes: 0 all graded; 2 usage or configuration; 3 infrastructure (rejected, lost);
# 4 an agent ended without a valid submission; 130 interrupted.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
# shellcheck source=scripts_hpc/lib/submit.sh
source "$ROOT/scripts_hpc/lib/submit.sh"
common::check_shell

COMMAND_LINE=$(printf '%q ' "$0" "$@")
POSITIONAL=() OPTIONS=() WATCH_OPTIONS=() DETACH=0 ATTACH=''
while (($#)); do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --site | --set | --model-set | --agent | --steps | --time-limit | --rollouts | --seed | --cleanup | --reuse-grading | --reuse-model | --script)
      (($# >= 2)) || die 2 "$1 needs a value (--help tells which)"
      OPTIONS+=("$1" "$2")
      shift
      ;;
    --attach)
      (($# >= 2)) || die 2 "--attach needs the folder of a run"
      ATTACH=$2
      shift
      ;;
    --detach) DETACH=1 ;;
    --dry-run | --yes | --prepare) OPTIONS+=("$1") ;;
    --json) WATCH_OPTIONS+=(--json) ;;
    -h | --help)
      common::usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*) die 2 "unknown option $1 (--help lists them)" ;;
    *) POSITIONAL+=("$1") ;;
  esac
  shift
done
# shellcheck disable=SC2218  # defined in common.sh
((${#POSITIONAL[@]} <= 5)) || die 2 "too many arguments: ${POSITIONAL[*]:5} (--help tells the order)"
if ((${#POSITIONAL[@]} == 5)); then
  OPTIONS+=(--cleanup "${POSITIONAL[4]}")
  unset 'POSITIONAL[4]'
fi

# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"
# shellcheck source=scripts_hpc/lib/service.sh
source "$ROOT/scripts_hpc/lib/service.sh"
# shellcheck source=scripts_hpc/lib/run.sh
source "$ROOT/scripts_hpc/lib/run.sh"
# shellcheck source=scripts_hpc/lib/workflow.sh
source "$ROOT/scripts_hpc/lib/workflow.sh"

python::ensure core
# from here on, as bash can't be interrupted while it reads a file with "$(…)" in it: the trap would be parsed in its midst
submit::begin

if [[ -n $ATTACH ]]; then
  [[ -d $ATTACH ]] || ATTACH=$ROOT/runs/$ATTACH
  [[ -f $ATTACH/workflow.json ]] || die 2 "--attach: $ATTACH is no run of this tool (no workflow.json in it)"
  submit::watch "$PYTHON" -m helpers workflow watch "$ATTACH" ${WATCH_OPTIONS[@]+"${WATCH_OPTIONS[@]}"}
fi

# ---- check everything, and make the run's folder

submit::plan "$PYTHON" -m helpers workflow plan --command-line "$COMMAND_LINE" ${OPTIONS[@]+"${OPTIONS[@]}"} -- ${POSITIONAL[@]+"${POSITIONAL[@]}"}
submit::open "$RUN_GROUP"
for name in ${ENVIRONMENTS[@]+"${ENVIRONMENTS[@]}"}; do (python::ensure "$name"); done

# ---- submit all jobs at once

workflow::submit

submit::hand_over run "$RUN_GROUP" "$DETACH" "$PYTHON" -m helpers workflow watch "$RUN_GROUP" ${WATCH_OPTIONS[@]+"${WATCH_OPTIONS[@]}"}
