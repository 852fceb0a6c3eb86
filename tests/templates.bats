# Every shipped task, the whole way: definition, data, servers, agent, grade. Real servers and agents on this machine.
bats_require_minimum_version 1.5.0

setup_file() { export BATS_TEST_TIMEOUT=240; }

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=$ROOT
  declare -gA PIDS=()
}

teardown() {
  ((${#PIDS[@]} == 0)) || kill "${PIDS[@]}" 2>/dev/null || true
  end_local_jobs
}

start() { # start TASK ARGUMENT…: a workflow in the background; its process id goes to PIDS
  "$ROOT/scripts_hpc/run_workflow.sh" "$@" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/$1.log" 2>&1 3>&- 4>&- &
  PIDS[$1]=$!
}

scored() { # scored TASK: waits for its workflow, and shows what it said when it isn't a score
  local pid=${PIDS[$1]}
  unset "PIDS[$1]"
  wait "$pid" && grep -qE "^$1 / .*: score -?[0-9.]+" "$BATS_TEST_TMPDIR/$1.log" || {
    printf -- '--- %s\n' "$1" && tail -n 25 "$BATS_TEST_TMPDIR/$1.log" "$BATS_TEST_TMPDIR"/runs/*/logs/agent*.out
    return 1
  }
}

# bats test_tags=slow
@test "every template runs with the baseline to a graded result that beats its sample submission" {
  mapfile -t tasks < <(cd "$ROOT/templates/tasks" && printf '%s\n' *.json)
  ((${#tasks[@]} == 10))
  for task in "${tasks[@]}"; do start "${task%.json}" --agent baseline; done
  for task in "${tasks[@]}"; do scored "${task%.json}"; done
  "$ROOT/.venv-core/bin/python" - "$BATS_TEST_TMPDIR/runs" <<'PY'
import json, pathlib, sys

reports = [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("*/*/grading_report.json")]
assert len(reports) == 10, len(reports)
for report in reports:
    sign = -1 if report["is_lower_better"] else 1
    assert sign * report["score"] > sign * report["reference"]["sample_submission"], report
PY
}

@test "AIDE with replay: texts, numbers, and rows without labels" {
  export HPC_MODELS__REPLAY='{steps: 1}'
  for task in text_classification_basic regression_basic clustering_basic; do start "$task" replay; done
  for task in text_classification_basic regression_basic clustering_basic; do scored "$task"; done
}
