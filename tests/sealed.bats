# What waits in the queue is not changed by a `git pull`: jobs run the copy of the code that lies in their folder.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  CHECKOUT=$BATS_TEST_TMPDIR/checkout
  mkdir "$CHECKOUT"
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard scripts_hpc helpers templates site-config requirements |
    tar --null --files-from=- --create) | tar -x -C "$CHECKOUT"
  (cd "$ROOT" && python -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 1)
  # shellcheck source=scripts_hpc/lib/common.sh
  source "$ROOT/scripts_hpc/lib/common.sh"
  # shellcheck source=scripts_hpc/lib/scheduler.sh
  source "$ROOT/scripts_hpc/lib/scheduler.sh"
  SCHEDULER=local LOCAL_JOBS=$BATS_TEST_TMPDIR/addresses/local_jobs
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR/runs"
}

pull() { # all that a job could read of the checkout is different from now on
  find "$CHECKOUT/scripts_hpc/lib" "$CHECKOUT/templates" -type f -name '*.sh' -exec sed -i '1s/.*/echo EDITED; exit 9/' {} +
  find "$CHECKOUT/helpers" -name '*.py' -exec sed -i '1s/.*/raise SystemExit("EDITED")/' {} +
}

ended() { [[ $(sched::states "$1" | cut -d"|" -f2) != @(PENDING|RUNNING) ]]; }

@test "an edit of lib/, of helpers/ and of the agent while the jobs wait: what runs is the old" {
  run=$(cd "$CHECKOUT" && PYTHONPATH=$CHECKOUT python -m helpers workflow plan classification_basic --agent baseline --site "$SITE_FILE" 2>/dev/null |
    sed -n 's/^RUN_GROUP=//p')
  echo 'until [[ -e $0.go ]]; do sleep 0.05; done' >"$BATS_TEST_TMPDIR/gate"
  gate=$(sched::submit "$BATS_TEST_TMPDIR/gate")
  grading=$(sched::submit --after-end "$gate" "$run/jobs/grading_server.sh" classification_basic)
  agent=$(sched::submit --after-end "$gate" "$run/jobs/agent.sh" 0 0 1 "auto:$grading" external)
  pull
  [[ $(sched::states "$agent" | cut -d"|" -f2) == PENDING ]]
  touch "$BATS_TEST_TMPDIR/gate.go"
  wait_for 60 ended "$agent"
  grep -q '"state": "scored"' "$run/classification_basic_$agent/run_metadata.json" || {
    tail -n 20 "$run"/logs/*
    return 1
  }
  refuse grep -rq EDITED "$run/logs" "$run/jobs"
  grep -q '"sha256": "[0-9a-f]\{64\}"' "$run/workflow.json"
  wait_for 30 ended "$grading"
}

@test "a script that was submitted by hand runs the checkout, and says which commit that is" {
  git -c init.defaultBranch=main init -q "$CHECKOUT"
  git -C "$CHECKOUT" add .
  git -C "$CHECKOUT" -c user.name=x -c user.email=x@example.org commit -qm one
  commit=$(git -C "$CHECKOUT" rev-parse HEAD)
  said() { ROOT=$CHECKOUT common::tell_commit 2>&1; }
  expect_in "runs the code of $CHECKOUT as it is now: $commit" "$(said)"
  echo >>"$CHECKOUT/helpers/runs/metadata.py"
  [[ $(said) == *"$commit, with changes" ]]
  rm -r "$CHECKOUT/.git"
  [[ $(said) == *"an unknown commit" ]]
  grep -qx "common::tell_commit &" "$ROOT/tests/golden/local/slurm_vllm_replay.sh"
}
