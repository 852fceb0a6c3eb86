#!/usr/bin/env bash
# Usage: scripts_hpc/run_benchmark.sh run CONFIG [options]
#        scripts_hpc/run_benchmark.sh resume NAME [--latest | --rollout STAMP] [options]
#        scripts_hpc/run_benchmark.sh attach ROUND [--json] [-v]
#        scripts_hpc/run_benchmark.sh summarize NAME [--latest | --rollout STAMP] [--json]
#        scripts_hpc/run_benchmark.sh eval NAME [--latest | --rollout STAMP] [options]
#        scripts_hpc/run_benchmark.sh compare A B [--of MEASURE] [--fail-if-worse] [--json]
#
# Runs a benchmark: many tasks with several models and agents, each several times (each time is a rollout), as the TOML file CONFIG says;
# templates/benchmarks/ has examples. All agents share one grading server, and one model server for each model. They are submitted as job
# arrays, of which `parallel` jobs run at once. Each `run` makes a new round: the folder <paths.rollouts>/<name>/<stamp>, with the runs,
# manifest.json and summary.md.
#
#   run         check everything, submit all jobs, watch them, and sum up
#   resume      go on with a round, by default the newest. A rollout that has a result never runs again. One that was lost is tried again,
#               as often as `retries` of CONFIG says (2); one that was cancelled or never began is run
#   attach      watch a round again (its folder)
#   summarize   sum up a round as far as it is, by default the newest: the tables of the specification, then means with their intervals,
#               rates, pass@k, and what it cost. The same is written to summary.md
#   eval        grade a round again, by default the newest, from what its runs left; no agent runs again. From then on the new grades are
#               the runs' results, and the round is summed up again. The earlier grades are kept in evaluation_results.<n>.json and in each
#               run's record; eval_manifest.json says what became of each run. A run without a submission, or whose new grading fails,
#               stays as it is
#   compare     compare two rounds task by task: the difference, whether chance alone would make one as large, and what else differs.
#               MEASURE: score, any_medal, above_median or success. With --fail-if-worse, whether B is worse on exactly these tasks: if its
#               scores or its rate of success are, by more than chance explains, the command names the tasks and ends with 1
#
#   NAME   a benchmark's name, or a round's folder          A, B   a benchmark (its newest round), BENCHMARK/STAMP, or a round's folder
#
# Options
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set jobs.agent.cpus=16 (repeatable)
#   --model NAME=MODEL run: the model of models.yaml that a name in CONFIG stands for, e.g. --model gpt-4=replay (repeatable)
#   --budget KEY=NUMBER resume: a new budget of gpu_hours, tokens or usd for the round, e.g. --budget tokens=2000000 (repeatable). A round
#                      whose budget is used up goes on only with a larger one
#   --detach           run, resume: submit, print the round's folder, and leave. eval: print the folder of the grading jobs, and leave;
#                      `jobs.sh attach` on that folder finishes it
#   --dry-run          run, resume, eval: check everything and show what would be done; submit nothing
#   --yes              run: don't ask before a round that could cost many GPU-hours
#   --json             the results as JSON on standard output
#   -v                 run, resume, attach: a plain line for each rollout that ends, without icons; -vv: also everything that the jobs
#                      write, each line after the run's id
#   -h, --help         this text
#
# [budget] of CONFIG limits what a round uses: gpu_hours (of its model servers: GPUs times the time that their jobs lived, by their own
# notes), tokens (as the agents count them), and usd (of these tokens, by the prices in models.yaml). Each rollout checks the budget before it
# begins, and does not begin once one of the three is used up. Rollouts that run at that moment go on, and count when they end; so a round
# can use more than its budget, by what `parallel` rollouts take. Tokens that an agent doesn't count are not in the sum. Those of a killed
# job are not either, until `resume` adds them. A round also stops if it only loses runs: 5 lost, and none that ended otherwise, since it
# was submitted or resumed.
#
# Ctrl-C ends all jobs of the round. Exit codes: 0 all graded; 1 worse (compare); 2 usage or configuration; 3 infrastructure (rejected or
# lost; eval: a run could not be graded again); 4 an agent ended without a valid submission (not eval); 130 interrupted, or the budget was
# used up before all rollouts had begun.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
COMMAND_LINE=$(printf '%q ' "$0" "$@")
start::verb "run resume attach summarize eval compare" "$@"
VERB=$1
shift
if [[ $VERB == summarize || $VERB == compare ]]; then start::python helpers.benchmarks.cli "$VERB" "$@"; fi

POSITIONAL=() OPTIONS=() WATCH_OPTIONS=() DETACH=0
while (($#)); do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --site | --set | --model | --rollout | --budget)
      (($# >= 2)) || die 2 "$1 needs a value (--help tells which)"
      OPTIONS+=("$1" "$2")
      shift
      ;;
    --detach) DETACH=1 ;;
    --dry-run | --yes | --latest) OPTIONS+=("$1") ;;
    --json | -v | -vv) WATCH_OPTIONS+=("$1") ;;
    -*) die 2 "unknown option $1 (--help lists them)" ;;
    *) POSITIONAL+=("$1") ;;
  esac
  shift
done
[[ $VERB != eval || " ${WATCH_OPTIONS[*]-} " != *" -v"* ]] || die 2 "eval takes no -v: it says a line for each run (--help tells more)"
((${#POSITIONAL[@]} == 1)) || die 2 "$VERB needs one $([[ $VERB == run ]] && printf 'configuration' || printf "round's folder") (--help tells more)"

# with submit.sh, scheduler.sh and service.sh
# shellcheck source=scripts_hpc/lib/grade.sh
source "$ROOT/scripts_hpc/lib/grade.sh"
# shellcheck source=scripts_hpc/lib/run.sh
source "$ROOT/scripts_hpc/lib/run.sh"
# shellcheck source=scripts_hpc/lib/workflow.sh
source "$ROOT/scripts_hpc/lib/workflow.sh"

python::ensure core
# from here on, as bash can't be interrupted while it reads a file with "$(…)" in it: the trap would be parsed in its midst
submit::begin

if [[ $VERB == attach ]]; then
  RUN_GROUP=${POSITIONAL[0]}
  [[ -f $RUN_GROUP/manifest.json ]] || die 2 "attach: $RUN_GROUP is no round of a benchmark (no manifest.json in it)"
  submit::watch "$PYTHON" -m helpers.benchmarks.cli watch "$RUN_GROUP" ${WATCH_OPTIONS[@]+"${WATCH_OPTIONS[@]}"}
fi

# Of those that submit for the same round, or grade it anew, the second sees what the first has submitted (claims hold where locks don't).
lock() {
  exec {LOCK}>>"$RUN_GROUP/jobs/.resume" || die 3 "can't write to $RUN_GROUP/jobs: $(common::lacking "$RUN_GROUP")"
  flock --wait 300 --conflict-exit-code 99 "$LOCK" || (($? != 99)) || die 3 "somebody else goes on with $RUN_GROUP just now"
}

if [[ $VERB == resume || $VERB == eval ]]; then
  WHERE=$(exec "$PYTHON" -m helpers.benchmarks.cli where ${OPTIONS[@]+"${OPTIONS[@]}"} -- "${POSITIONAL[0]}") || exit
  eval "$WHERE"
  lock
  if [[ $VERB == resume ]]; then
    submit::open "$RUN_GROUP"
    [[ " ${OPTIONS[*]-} " == *" --dry-run "* ]] || submit::end_strays
  fi
  submit::plan "$PYTHON" -m helpers.benchmarks.cli "$VERB" ${OPTIONS[@]+"${OPTIONS[@]}"} -- "$RUN_GROUP"
else
  submit::plan "$PYTHON" -m helpers.benchmarks.cli plan --command-line "$COMMAND_LINE" ${OPTIONS[@]+"${OPTIONS[@]}"} -- "${POSITIONAL[0]}"
fi
if [[ $VERB == eval ]]; then
  grade::submit
  flock --unlock "$LOCK" || true
  submit::hand_over evaluation "$FOLDER" "$DETACH" "$PYTHON" -m helpers.benchmarks.cli evaluated "$FOLDER" ${WATCH_OPTIONS[@]+"${WATCH_OPTIONS[@]}"}
fi
if [[ $VERB == run ]]; then
  submit::open "$RUN_GROUP"
  lock
fi
for name in ${ENVIRONMENTS[@]+"${ENVIRONMENTS[@]}"}; do (python::ensure "$name"); done
workflow::submit
# (closed alone it would be held by the jobs of this machine, which have it, too)
flock --unlock "$LOCK" || true

submit::hand_over round "$RUN_GROUP" "$DETACH" "$PYTHON" -m helpers.benchmarks.cli watch "$RUN_GROUP" ${WATCH_OPTIONS[@]+"${WATCH_OPTIONS[@]}"}
