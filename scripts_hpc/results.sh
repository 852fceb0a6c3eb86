#!/usr/bin/env bash
# Usage: scripts_hpc/results.sh export [RUNS…] [-o FILE] [--json] [--all] [--mlflow [URI]]
#        scripts_hpc/results.sh columns
#        scripts_hpc/results.sh report [ROUND|RUNS…] [-o FILE]
#        scripts_hpc/results.sh explain [RUN] [--json]
#        scripts_hpc/results.sh regrade [RUN] [--detach] [--json]
#        scripts_hpc/results.sh watch ROUND
#        scripts_hpc/results.sh trajectory [RUN]
#
#   export     results of many runs in one table, a row a run. RUNS: the folder of a workflow, of many, or of one run; default: all of
#              the site's (paths.runs)
#   columns    what counts as a row, and what each column says
#   report     rounds of a benchmark, or runs, as one HTML page that needs no network: which model is better, by how much, how sure, at
#              what cost; every run with what its agent did, and where its values come from. ROUND: a benchmark (its newest round),
#              BENCHMARK/STAMP, or a round's folder; RUNS as for export. More details than a page should hold go into files beside it
#   explain    says where each value in a run's row comes from (file, formula, jobs), and computes it again: the score by grading here, if
#              the answers and the grader are on this machine; hours from the scheduler's records; checksums from the files. It says which
#              values can't be computed any more. If a value differs, it names the column, both values and the file, and ends with 3
#   regrade    grades the submission of a scored run once more; new jobs do that, and no agent runs. The first grade stays the result; the
#              run's record lists both grades, with their times and reports. If they differ, it says so and ends with 1. If RUN is a
#              folder with several agents, all scored submissions are graded
#   watch      shows the summary of a benchmark's round while it runs, renewed as runs end, and what runs now. It only looks: Ctrl-C ends
#              the view, and the jobs go on. When the round is over, it ends with the exit code of `run_benchmark.sh attach`
#   trajectory write logs/trajectory.json of a run: what its agent did, step by step, as ATIF-v1.7, made of AIDE's journal.json or
#              mini-swe-agent's mini-swe.traj.json. Very long texts are without their middle, and it says so. 3 where there is neither
#
#   RUN     as for jobs.sh: the folder of a run, its name, or the id of one of its jobs; default: the newest
#   ROUND   a benchmark (its newest round), BENCHMARK/STAMP, or a round's folder
#
#   -o, --output FILE   write there; default: standard output, of a report report.html. A table is written as parquet if FILE ends in .parquet,
#                       else as CSV
#   --json              for programs: a JSON list instead of CSV or lines
#   --all               a row for every run, lost and cancelled tries too
#   --mlflow [URI]      log each row to MLflow, once. URI: of a server, or a database file; default: sqlite:///mlflow.db, in this folder.
#                       No table is printed then, unless -o is given
#   --detach            regrade: submit, print the folder of the jobs, and leave; `jobs.sh attach` watches again
#   --site NAME         a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE     override a key of the site, e.g. --set paths.runs=/scratch/me/runs
#   -h, --help          this text
#
# Exit codes: 0 all was read (explain, regrade: and is the same); 1 regrade: another grade; 2 usage, or nothing found; 3 a file is broken
# (standard error names it; no row is left out), explain found a difference, or regrade got no grade; 130 interrupted. Those of watch are
# those of run_benchmark.sh.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "export columns report explain regrade watch trajectory" "$@"
case $1 in
  regrade)
    # shellcheck source=scripts_hpc/lib/grade.sh
    source "$ROOT/scripts_hpc/lib/grade.sh"
    grade::main --again "${@:2}"
    ;;
  report) start::python helpers.report.cli "${@:2}" ;;
  explain) start::python helpers.explain.cli "${@:2}" ;;
  watch) start::python helpers.benchmarks.cli live "${@:2}" ;;
  trajectory) start::python helpers.trajectories.cli "${@:2}" ;;
  columns) set -- export --help ;;
esac
start::python helpers.export_results "${@:2}"
