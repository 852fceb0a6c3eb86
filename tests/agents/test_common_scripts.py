"""await_endpoints.sh and validate_submission.sh, which every agent has."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
from agent_support import AGENTS, Grading, wait_for

COMMON = AGENTS / "common"
TOKEN = 'to"k\\en $(x)'


@pytest.fixture
def agent_dir(tmp_path):
    folder = tmp_path / "agent files"
    shutil.copytree(COMMON, folder)
    return folder


@pytest.fixture
def place(tmp_path, agent_dir):
    """The variables of an agent, with values that a careless script would trip over."""
    (tmp_path / "work space").mkdir()
    return os.environ | {
        "AGENT_DIR": str(agent_dir),
        "WORKSPACES_DIR": str(tmp_path / "work space"),
        "ENDPOINTS_FILE": str(tmp_path / "env"),
        "COMPETITION_ID": "odd & name/with \\1 $(touch no) `touch no`",
        "DATA_DIR": "/home/data & more",
        "SUBMISSION_DIR": "/home/submission",
        "LOGS_DIR": "/home/logs",
        "CODE_DIR": "/home/code",
        "TIME_LIMIT_SECS": "60",
        "STEP_LIMIT": "3",
    }


def run(command, place, **options):
    return subprocess.run(command, env=place, capture_output=True, text=True, timeout=20, **options)


def test_it_waits_exports_and_fills_in(place, agent_dir, tmp_path):
    (agent_dir / "notes.md").write_text("Notes for @COMPETITION_ID@; a@b.c and @UNKNOWN@ stay.\n")
    command = [
        "bash",
        "-c",
        'source "$AGENT_DIR/await_endpoints.sh"; python3 -c "import os; print(os.environ[\'KEY\'])"',
    ]
    process = subprocess.Popen(command, env=place, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    filled = tmp_path / "work space" / "instructions.txt"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert not filled.exists()
    (tmp_path / "new").write_text("GRADING_SERVER='http://grading:1/&'\nKEY='it'\\''s & $HOME \"x\"'\n")
    (tmp_path / "new").rename(tmp_path / "env")
    assert process.communicate(timeout=10)[0] == 'it\'s & $HOME "x"\n'
    text = filled.read_text()
    assert place["COMPETITION_ID"] in text and "/home/data & more has" not in text
    assert "in /home/data & more (read-only)" in text and "(http://grading:1/&)" in text
    assert text.endswith(f"Notes for {place['COMPETITION_ID']}; a@b.c and @UNKNOWN@ stay.\n")
    assert text.count("@") == 3
    assert not (tmp_path / "no").exists()
    assert sorted(path.name for path in filled.parent.iterdir()) == ["instructions.txt"]


def test_no_placeholder_of_any_agent_is_forgotten(place, agent_dir, tmp_path):
    (tmp_path / "env").write_text("GRADING_SERVER='http://g'\n")
    for notes in AGENTS.glob("*/notes.md"):
        shutil.copyfile(notes, agent_dir / "notes.md")
        assert run(["bash", agent_dir / "await_endpoints.sh"], place).returncode == 0
        assert "@" not in (tmp_path / "work space" / "instructions.txt").read_text(), notes


def without_curl(tmp_path):
    """A PATH with the few commands that a slim image has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sed", "sleep"):
        (folder / name).symlink_to(shutil.which(name))
    (folder / "python3").symlink_to(sys.executable)
    return str(folder)


@pytest.fixture(params=["curl", "python"])
def validate(request, place, agent_dir, tmp_path):
    """Runs validate_submission.sh, with curl or where there is only Python."""
    if request.param == "curl":
        assert shutil.which("curl"), "these tests need curl"
    else:
        place["PATH"] = without_curl(tmp_path)

    def run_it(*arguments, **variables):
        return run(["bash", agent_dir / "validate_submission.sh", *arguments], place | variables)

    return run_it


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / 'my "sub;mission", a.csv'
    path.write_text("id,target\n1,2\n")
    return path


@pytest.fixture
def odd_grading():
    server = Grading()
    server.token = TOKEN
    yield server
    server.close()


def test_verdicts(validate, submission, odd_grading):
    variables = {"GRADING_SERVER": odd_grading.url, "GRADING_TOKEN": TOKEN}
    done = validate(submission, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submission is valid.\n", "")
    body = odd_grading.calls[0]["body"]
    assert b"id,target\n1,2\n" in body and b'name="file"' in body
    assert b'name="competition"' in body and b"odd & name/with" in body
    submission.write_text("INVALID")
    done = validate(submission, **variables)
    assert (done.returncode, done.stdout) == (1, 'Submission invalid! Column "x" is\nnot there.\n')


def test_the_address_comes_from_the_file_of_endpoints_too(validate, submission, odd_grading, place, tmp_path):
    (tmp_path / "env").write_text(f"GRADING_SERVER='{odd_grading.url}'\nGRADING_TOKEN='{TOKEN}'\n")
    assert validate(submission).stdout == "Submission is valid.\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"GRADING_SERVER": "http://127.0.0.1:9", "GRADING_TOKEN": "t"}, "no answer from the grading server"),
        ({"GRADING_TOKEN": "wrong"}, "HTTP 401: no token"),
    ],
    ids=["away", "token"],
)
def test_no_verdict(validate, submission, odd_grading, variables, message):
    done = validate(submission, **{"GRADING_SERVER": odd_grading.url} | variables)
    assert done.returncode == 3 and done.stdout == ""
    assert message in done.stderr


@pytest.fixture
def serve():
    """Makes grading servers, and ends them."""
    made = []

    def make(certificate):
        made.append(Grading(certificate))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_the_server_is_known_by_its_certificate(validate, submission, serve, certificates, place, tmp_path):
    """Neither a proxy, nor what ~/.curlrc says, nor the authorities of others matter to the run's own server."""
    (tmp_path / ".curlrc").write_text('url = "http://127.0.0.1:9"\nfail\n')
    place |= {"HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    done = validate(submission, **serve(certificates["ours"]).endpoints)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submission is valid.\n", "")


@pytest.mark.parametrize("who", ["stranger", "elsewhere"])
def test_a_stranger_gets_no_token(validate, submission, serve, certificates, place, tmp_path, who):
    """Who else answers on the port is refused, though the system trusts it, or it has the certificate of another host."""
    server, own = serve(certificates[who]), certificates["ours" if who == "stranger" else who]
    system = str(certificates[who].path)
    authorities = tmp_path / "authorities"
    authorities.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", system]
    hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copyfile(system, authorities / f"{hashed}.0")
    (tmp_path / ".curlrc").write_text("insecure\n")
    place |= {
        "HOME": str(tmp_path),
        "CURL_CA_BUNDLE": system,
        "SSL_CERT_FILE": system,
        "SSL_CERT_DIR": str(authorities),
    }
    done = validate(submission, **server.endpoints | {"GRADING_CA_FILE": str(own.path)})
    assert done.returncode == 3 and done.stdout == ""
    assert "not this run's grading server" in done.stderr and done.stderr.count("\n") == 1
    assert server.calls == []


def test_a_certificate_that_is_missing_is_no_reason_to_trust_others(
    validate, submission, serve, certificates, tmp_path
):
    server = serve(certificates["ours"])
    variables = {"CURL_CA_BUNDLE": str(server.tls.path), "SSL_CERT_FILE": str(server.tls.path)}
    done = validate(submission, **server.endpoints | variables | {"GRADING_CA_FILE": str(tmp_path / "gone.pem")})
    assert done.returncode == 3 and "gone.pem" in done.stderr
    assert server.calls == []


def test_a_server_that_was_started_again_has_another_port(validate, submission, odd_grading, tmp_path):
    (tmp_path / "env").write_text("GRADING_SERVER='http://127.0.0.1:9'\n")
    lines = f"GRADING_SERVER='{odd_grading.url}'\nGRADING_TOKEN='{TOKEN}'\n"
    (tmp_path / "new").write_text(lines)
    timer = threading.Timer(0.3, os.replace, (tmp_path / "new", tmp_path / "env"))
    timer.start()
    done = validate(submission)
    timer.join()
    assert (done.returncode, done.stdout) == (0, "Submission is valid.\n")


def test_no_tool_to_ask_with(place, agent_dir, submission, tmp_path):
    place["PATH"] = without_curl(tmp_path)
    (tmp_path / "bin" / "python3").unlink()
    done = run(["bash", agent_dir / "validate_submission.sh", submission], place | {"GRADING_SERVER": "http://g"})
    assert done.returncode == 3 and "neither curl nor a working python3" in done.stderr


def test_wrong_usage(validate, tmp_path):
    assert validate().returncode == 2
    done = validate(tmp_path / "missing.csv", GRADING_SERVER="http://127.0.0.1:9")
    assert done.returncode == 2 and "missing.csv' is not a readable file" in done.stderr
    help_text = validate("--help")
    assert help_text.returncode == 0 and "Usage: bash validate_submission.sh FILE" in help_text.stdout


def test_the_token_is_no_argument_of_any_process(place, agent_dir, submission, tmp_path):
    """A stand-in for curl notes its arguments and its configuration."""
    fake = tmp_path / "fake"
    fake.mkdir()
    script = f"""#!/usr/bin/env python3
import json, sys
config = open(sys.argv[sys.argv.index("--config") + 1]).read()
json.dump([sys.argv, config], open({str(tmp_path / "seen")!r}, "w"))
print('{{"result": "Submission is valid."}}\\n200')
"""
    (fake / "curl").write_text(script)
    (fake / "curl").chmod(0o755)
    variables = {"PATH": f"{fake}:{place['PATH']}", "GRADING_SERVER": "http://g", "GRADING_TOKEN": "secret-token"}
    assert run(["bash", agent_dir / "validate_submission.sh", submission], place | variables).returncode == 0
    arguments, config = json.loads((tmp_path / "seen").read_text())
    assert "secret-token" not in " ".join(arguments)
    assert config == 'header = "Authorization: Bearer secret-token"\n'


def test_waiting_is_quick(place, agent_dir, tmp_path):
    """From the file of endpoints to filled instructions in well under half a second: the agent's model is paid for."""
    process = subprocess.Popen(["bash", agent_dir / "await_endpoints.sh"], env=place)
    (tmp_path / "env").write_text("GRADING_SERVER='http://g'\n")
    wait_for((tmp_path / "work space" / "instructions.txt").exists, 0.5, "instructions")
    assert process.wait(5) == 0
