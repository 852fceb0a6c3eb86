#!/usr/bin/env bash
# Usage: scripts_hpc/jobs.sh status|logs|stop|why|attach|grade [RUN] [options]
#        scripts_hpc/jobs.sh clean [--older-than AGE] [--yes] [options]
#        scripts_hpc/jobs.sh list [--running] [--since AGE|DATE] [options]
#
#   list               the newest runs of agents, a line each: job, state, score with its metric or medal, GPU-hours, age
#   status             a line for each job (state, queue reason or how far its server has loaded, time, node), and the state of
#                      each run: while it runs the agent's step, its best metric and the time that is left
#   logs [RUN] [PART]  the end of each job's log, in the order to read them: agent, grading, model; PART is one of the three
#                      (prepare of a preparation, notebook of a notebook). What an agent printed itself comes after its
#                      job's log, each line marked with |
#                      With -f, what they write from now on as well, until the jobs are gone; Ctrl-C ends that, and no job
#   stop               cancel what still runs of a run, and wait until it is gone
#   why                one sentence on each job that waits or died, and what to do
#   attach             watch it again until it ends
#   grade              grade what a run had submitted that ended without being graded (lost, or cut off at its job's time limit), by
#                      jobs of its own; its record then says so, and why it wasn't graded at first. Of a run's folder with several
#                      agents, all such. What was written after the agent's time, or after the run's end, doesn't count
#   clean              make room in the folders of old workflows: agents' workspaces and the middles of long logs go, and all that
#                      tells of a result stays. Says first what goes, and asks. Leaves alone what still runs, or has a submission
#                      that `grade` could grade; what went stands in cleaned.json of each folder
#
#   RUN   the folder of a run, a preparation or a notebook, its name, or the id of one of its jobs; default: the newest.
#         An agent's own folder or job means that agent alone where several share the servers; so does the job of an array.
#
# Options
#   --site NAME        where to look for RUN: a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set paths.runs=/scratch/me/runs (repeatable)
#   -f, --follow       logs: go on until the run's jobs are gone
#   --running          list: only runs without an end
#   --since AGE|DATE   list: all runs since then (90m, 12h, 3d, 2w, 2026-11-20), instead of the newest 20
#   --older-than AGE   clean: only what ended before that (30d)         --yes   clean: don't ask
#   --detach           grade: submit, print the folder of the jobs, and leave
#   --json             for programs
#   -h, --help         this text
#
# Exit codes: 0 done; 2 usage, or no such run; 3 the scheduler doesn't answer, or a job can't be ended. attach and grade end as
# run_workflow.sh does.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "list status logs stop why attach grade clean" "$@"
if [[ $1 == grade ]]; then
  # shellcheck source=scripts_hpc/lib/grade.sh
  source "$ROOT/scripts_hpc/lib/grade.sh"
  grade::main "${@:2}"
fi
start::python helpers.jobs.cli "$@"
