#!/usr/bin/env bash
# Usage: serial.sh RENDERED ADDRESSES COMPETITION      (for bench_start.py; sbatch on PATH)
#
# The scheme of this project's predecessor, with this project's own job scripts: grading server, model server and agent one after
# the other, each submitted when the one before is ready, asked for every 5 s, with 12 s of fixed sleeps. Prints the three job ids.
set -euo pipefail
RENDERED=$1 ADDRESSES=$2 COMPETITION=$3

await() { # await SERVICE_JOB
  until [[ -f $ADDRESSES/$1 ]]; do sleep 5; done
  sleep 6
}

grading=$(sbatch --parsable "$RENDERED/slurm_grading_server.sh" "$COMPETITION")
await "grading_server_$grading"
model=$(sbatch --parsable "$RENDERED/slurm_vllm_replay.sh")
await "vllm_replay_$model"
agent=$(sbatch --parsable "$RENDERED/slurm_agent_aide.sh" "$COMPETITION" "auto:$grading" "auto:$model")
printf '%s\n' "$grading" "$model" "$agent"
