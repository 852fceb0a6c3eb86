#!/usr/bin/env bash
# Usage: scripts_hpc/run_task.sh TASK [options]
#        scripts_hpc/run_task.sh TASK --notebook [--time-limit SECONDS] [--site NAME] [--set KEY=VALUE]…
#
# Runs a task of the list that `scripts_hpc/tasks.sh list` shows. Prepares its data if they are missing, then runs an agent on it with
# run_workflow.sh; or, with --local, a script as a process of this machine. With --validate, checks the results afterwards.
#
#   --agent NAME          a name in site-config/agents.yaml (experiment)     --model NAME   for agents that need a model
#   --script FILE         what the agent runs instead of its own pipeline: .py, .sh, .ipynb; with --local any executable too
#   --time-limit SECONDS  instead of the task's estimated_time
#   --local               as a process of this machine: no scheduler, no container, no isolation
#   --work-dir DIR        with --local, where task_<id>/{data,code,results,logs} are made (./task_workspace)
#   --retain              with --local, keep the copy of the data there
#   --data-dir DIR        the prepared tasks, instead of the site's paths.data
#   --tasks-dir DIR       your own definitions, instead of the site's paths.tasks
#   --validate            validate the results afterwards
#   --notebook            a JupyterLab on the task's data as an interactive job, instead of an agent
#   --site NAME, --set KEY=VALUE    the site, and changes to its keys
#   --json                for programs           -v, --verbose   log more, and show what a local program printed
#   -h, --help            this text
#
# Ctrl-C ends the run. Exit codes: 0 done; 1 validated and not good enough; 2 usage or configuration; 3 infrastructure or disk full;
# 4 the run failed; 130 interrupted.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
ARGUMENTS=() NOTEBOOK=0
for argument in "$@"; do
  if [[ $argument == --notebook ]]; then NOTEBOOK=1; else ARGUMENTS+=("$argument"); fi
done
# ---- the notebook is a job of its own kind
if ((NOTEBOOK)); then exec bash "$ROOT/scripts_hpc/run_notebook.sh" ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; fi
start::python helpers.run_task "$@"
