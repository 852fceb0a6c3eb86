# run_notebook.sh on one machine, with a stand-in for JupyterLab that knows the options it is given, and its token.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  make_task toy
  export HAB_VENV_DIR=$ROOT HAB_VENV_EXPERIMENT=$BATS_TEST_TMPDIR/venv
  mkdir -p "$HAB_VENV_EXPERIMENT/bin"
}

teardown() { end_local_jobs; }

jupyter() { # jupyter: text of the stand-in on stdin, behind what all of them need
  {
    printf '#!%s\n' "$(command -v python3)"
    cat <<'PYTHON'
import http.server, os, ssl, sys, time
options = dict(option.lstrip("-").partition("=")[::2] for option in sys.argv[1:])
known = {"no-browser", "allow-root", "ServerApp.ip", "ServerApp.port", "ServerApp.port_retries", "ServerApp.root_dir",
         "ServerApp.shutdown_no_activity_timeout", "MappingKernelManager.cull_idle_timeout", "MappingKernelManager.cull_connected",
         "TerminalManager.cull_inactive_timeout", "LabApp.check_for_updates_class", "LabApp.news_url", "LabApp.extension_manager",
         "ServerApp.certfile", "ServerApp.keyfile"}
assert set(options) <= known, set(options) - known
token = os.environ["JUPYTER_TOKEN"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mine = self.headers.get("Authorization") in (f"Bearer {token}", f"token {token}")
        self.send_response(200 if mine and self.path == "/api/status" else 403)
        self.end_headers()
class Server(http.server.HTTPServer):
    def __init__(self):
        super().__init__((options["ServerApp.ip"], int(options["ServerApp.port"])), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["ServerApp.certfile"], options["ServerApp.keyfile"])
        self.socket = context.wrap_socket(self.socket, server_side=True)
PYTHON
    cat
  } >"$HAB_VENV_EXPERIMENT/bin/jupyter-lab"
  chmod +x "$HAB_VENV_EXPERIMENT/bin/jupyter-lab"
}

serving() {
  jupyter <<'PYTHON'
Server().serve_forever()
PYTHON
}

notebook() { try "$ROOT/scripts_hpc/run_notebook.sh" "$@" --site "$SITE_FILE"; }
address() { printf '%s\n' "$BATS_TEST_TMPDIR/addresses/notebook_1"; }
state_is() { grep -qx "$1" "$BATS_TEST_TMPDIR/addresses/local_jobs/1/state"; }

nothing_left() { [[ -z $(local_processes) && ! -e $(address) && ! -e $(address).consumers ]]; }

@test "it answers, and tells how to reach it and to end it; the token is only in the address file" {
  serving
  notebook toy --time-limit 300
  expect_status 0
  token=$(sed -n 's/^token=//p' "$(address)")
  url=$(head -n 1 "$(address)")
  [[ $(stat -c %a "$(address)") == 600 && $token =~ ^[0-9a-f]{48}$ ]]
  expect_in "JupyterLab on toy is ready: job 1 on " "$output"
  expect_in "for 00:05:00 at most" "$output"
  expect_in "$url/lab, with the token that this prints: sed -n s/^token=//p $(address)" "$output"
  expect_in "your notebooks:   $BATS_TEST_TMPDIR/notebooks/toy" "$output"
  expect_in 'runs without a container' "$output"
  [[ $url == https://* ]]
  expect_in "SHA-256 $(openssl x509 -noout -fingerprint -sha256 -in "$(address)" | cut -d= -f2)" "$output"
  [[ $output$error != *"$token"* ]]
  if grep -rF "$token" "$BATS_TEST_TMPDIR/runs"; then return 1; fi
  if pgrep -f "$token"; then return 1; fi
  [[ $(readlink "$BATS_TEST_TMPDIR/notebooks/toy/data") == "$BATS_TEST_TMPDIR/data/toy/prepared/public" ]]
  pid=$(sed -n 's/.*to end it: *kill //p' <<<"$output")
  kill "$pid"
  wait_for 60 nothing_left
  wait_for 5 state_is CANCELLED
}

@test "one that ends itself, unused, is not started again; one that dies is" {
  jupyter <<'PYTHON'
import threading
starts = os.path.join(options["ServerApp.root_dir"], "starts")
open(starts, "a").write(options["ServerApp.port"] + "\n")
number = len(open(starts).readlines())
server = Server()
threading.Thread(target=server.serve_forever, daemon=True).start()
end = os.path.join(options["ServerApp.root_dir"], f"end{number}")
while not os.path.exists(end):
    time.sleep(0.05)
sys.stdout.flush()
os._exit(0 if number == 2 else 9)
PYTHON
  notebook toy
  expect_status 0
  folder=$BATS_TEST_TMPDIR/notebooks/toy
  touch "$folder/end1"
  wait_for 20 grep -q 'epoch=2' "$(address)"
  [[ $(sort -u "$folder/starts" | wc -l) == 2 && $(wc -l <"$folder/starts") == 2 ]]
  touch "$folder/end2"
  wait_for 60 nothing_left
  wait_for 5 state_is COMPLETED
  grep -q 'notebook ended itself' "$BATS_TEST_TMPDIR"/runs/*_notebook/logs/notebook-1.out
}

@test "one that never answers: its last words, code 3, and nothing left" {
  jupyter <<'PYTHON'
sys.exit("no room for notebooks")
PYTHON
  notebook toy
  expect_status 3
  expect_in 'no room for notebooks' "$error"
  expect_in 'job 1 ended before JupyterLab answered (FAILED: notebook died twice with code 1 before it was ready: see its log)' "$error"
  wait_for 10 nothing_left
}

@test "Ctrl-C while it is waited for cancels the job" {
  jupyter <<'PYTHON'
time.sleep(600)
PYTHON
  set -m
  "$ROOT/scripts_hpc/run_notebook.sh" toy --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  set +m
  wait_for 20 grep -q 'job 1: RUNNING' "$BATS_TEST_TMPDIR/out"
  kill -INT -- "-$pid"
  status=0
  wait "$pid" || status=$?
  [[ $status == 130 ]]
  wait_for 60 nothing_left
  wait_for 5 state_is CANCELLED
}

@test "bad usage and what is missing are named before anything is submitted" {
  serving
  for case in ':which task' 'toy other:one task at a time' '--nope:unknown option --nope' 'toy --set:--set needs a value' \
    'none:task .none. isn.t prepared: .*prepare_tasks.sh none' '../toy:task .../toy.: letters' 'toy --time-limit 5:--time-limit'; do
    # shellcheck disable=SC2086
    try "$ROOT/scripts_hpc/run_notebook.sh" --site "$SITE_FILE" ${case%%:*}
    expect_status 2
    [[ $error =~ ${case#*:} ]] || { printf '%s: %s\n' "$case" "$error" && false; }
  done
  local manifest=$BATS_TEST_TMPDIR/data/toy/prepared/manifest.json
  mkdir "$manifest" # root can read all else
  notebook toy
  expect_status 2
  [[ $error == "error: task 'toy': $manifest can't be read: Is a directory (paths.data of site here)." ]]
  rmdir "$manifest"
  rm "$HAB_VENV_EXPERIMENT/bin/jupyter-lab"
  notebook toy
  expect_status 2
  expect_in "there is no JupyterLab in $HAB_VENV_EXPERIMENT" "$error"
  expect_in 'pip install -r' "$error"
  [[ ! -e $BATS_TEST_TMPDIR/addresses ]]
}
