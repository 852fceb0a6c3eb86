#!/usr/bin/env bash
# Usage: scripts_hpc/results.sh export [RUNS…] [-o FILE] [--json] [--all] [--mlflow [URI]]
#        scripts_hpc/results.sh columns
#        scripts_hpc/results.sh explain [RUN] [--json]
#        scripts_hpc/results.sh regrade [RUN] [--detach] [--json]
#        scripts_hpc/results.sh watch ROUND
#
#   export     results of many runs in one table, a row a run. RUNS: the folder of a workflow, of many, or of one run; default: all of
#              the site's (paths.runs)
#   columns    what counts as a row, and what each column says
#   explain    where each value in a run's row comes from (file, formula, jobs), and whether it comes out the same when it is derived anew:
#              scores graded again here where the answers and their grader are, hours from the scheduler's records, checksums from the
#              files. What can't be derived any more is said as that. A difference names column, both values and file, and ends with 3
#   regrade    grade what a run was scored by once more, by jobs of its own, without an agent. Its result stays the first grade; the record
#              lists both, with their times and reports. A difference is told and ends with 1. Of a run's folder with several agents, all
#              that were scored
#
#   watch      the summary of a benchmark's round while it runs, with what runs now; refreshed as runs end. It only looks: Ctrl-C ends
#              the view and not the jobs. It ends with the round, and with the exit code of `run_benchmark.sh attach`
#
#   RUN     as for jobs.sh: the folder of a run, its name, or the id of one of its jobs; default: the newest
#   ROUND   a benchmark (its newest round), BENCHMARK/STAMP, or a round's folder
#
#   -o, --output FILE   write there, as parquet where FILE ends in .parquet; default: CSV to standard output
#   --json              for programs: a JSON list instead of CSV or lines
#   --all               a row for every run, lost and cancelled tries too
#   --mlflow [URI]      log each row to MLflow, once, and print no table (unless -o): a server, or a database file; default:
#                       sqlite:///mlflow.db, here
#   --detach            regrade: submit, print the folder of the jobs, and leave; `jobs.sh attach` watches again
#   --site NAME         a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE     override a key of the site, e.g. --set paths.runs=/scratch/me/runs
#   -h, --help          this text
#
# Exit codes: 0 all was read, and is the same; 1 regrade: another grade; 2 usage, or nothing found; 3 something is broken, or explain
# found a difference (see stderr; no row is lost), or a regrade came to no grade; 130 interrupted. Of watch: as of run_benchmark.sh.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "export columns explain regrade watch" "$@"
case $1 in
  regrade)
    # shellcheck source=scripts_hpc/lib/grade.sh
    source "$ROOT/scripts_hpc/lib/grade.sh"
    grade::main --again "${@:2}"
    ;;
  explain) start::python helpers.explain.cli "${@:2}" ;;
  watch) start::python helpers.benchmarks.cli live "${@:2}" ;;
  columns) set -- export --help ;;
esac
start::python helpers.export_results "${@:2}"
