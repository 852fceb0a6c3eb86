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
#                      With -f, goes on to show what the jobs write, until they are gone; Ctrl-C ends the view, and no job
#   stop               cancel the jobs of a run that still wait or run, and wait until they are gone
#   why                one sentence on each job that waits or died, and what to do
#   attach             watch a run again until it ends
#   grade              grade the submission of a run that ended before it was graded (it was lost, or its job reached its time limit).
#                      New jobs do that; the run's record then says so, and why it wasn't graded at first. If RUN is a folder with
#                      several agents, all such submissions are graded. What was written after the agent's time, or after the run's
#                      end, doesn't count
#   clean              free disk space in the folders of old workflows: removes agents' workspaces and the middle parts of long logs,
#                      and keeps everything that tells of a result. It lists what it will remove, and asks first. Runs that have not
#                      ended, or whose submission `grade` could grade, are left alone; cleaned.json in each folder notes what went
#
#   RUN   the folder of a run, a preparation or a notebook, its name, or the id of one of its jobs; default: the newest.
#         Where several agents share their servers, the folder or the job of one agent means that agent alone.
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
