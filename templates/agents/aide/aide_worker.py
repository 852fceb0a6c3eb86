"""AIDE's steps: its own agent and search, with this project's requests, interpreter and files around them."""

import dataclasses
import importlib.util
import json
import os
import random
import shlex
import shutil
import stat
import subprocess
import time
from collections import Counter
from pathlib import Path

import aide.agent
import yaml
from agent_models import TimeIsOver, TokensUsedUp
from agent_settings import AgentError, Settings, Usage, one_line, write_file
from aide.interpreter import ExecutionResult
from aide.journal import Journal, Node
from aide.utils.config import Config, _load_cfg, prep_cfg
from aide.utils.data_preview import plaintext_files
from aide.utils.metric import WorstMetricValue
from aide_interpreter import Interpreter
from aide_models import Models
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from post_submission import ask

FAILURES_ALLOWED = 10  # steps in a row without a program
LARGEST_SUBMISSION = 1 << 30  # bytes; also of one that is a hole
LARGEST_PREVIEW = 1 << 29  # bytes of text that AIDE reads for its preview of the data


def run(settings: Settings) -> int:
    """Run AIDE until its steps are done or the time is over; the exit code. Raises AgentError."""
    random.seed(settings.seed)
    # all that needs no service comes before the wait for them
    steps = Steps(settings)
    subprocess.run(["bash", settings.agent_dir / "await_endpoints.sh"], check=True)
    return steps.run()


class Agent(aide.agent.Agent):
    """AIDE's agent, told which packages are installed, and with a preview of the data that can't end the run."""

    @property
    def _prompt_environment(self) -> dict:
        names = ["numpy", "pandas", "sklearn", "statsmodels", "xgboost", "lightgbm", "torch", "torchvision", "timm"]
        installed = [name for name in names if importlib.util.find_spec(name)]
        return {"Installed Packages": f"Your solution can use these packages: {', '.join(installed)}."}

    def update_data_preview(self) -> None:
        if self.data_preview is not None:
            return
        files = [path for path in sorted(self.cfg.data_dir.rglob("*")) if path.is_file()]
        try:
            if sum(path.stat().st_size for path in files if path.suffix in plaintext_files) > LARGEST_PREVIEW:
                raise ValueError("too much to read")
            super().update_data_preview()
        except Exception:  # files in another encoding, tables that are none
            lines = [
                f"./input/{path.relative_to(self.cfg.data_dir)} ({path.stat().st_size} bytes)" for path in files[:100]
            ]
            lines += [f"... and {len(files) - 100} more"] if len(files) > 100 else []
            self.data_preview = "\n".join(lines)


class Steps:
    """One run: AIDE's objects, the best submission so far, and the files that tell of them."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.usage = Usage(settings.logs_dir / "usage.json")
        self.usage.add()
        self.description = self._description()
        self.cfg = configuration(settings)
        self.workspace = self.cfg.workspace_dir
        self._tidy_workspace()
        self.journal = Journal()
        self.agent = Agent(task_desc="", cfg=self.cfg, journal=self.journal)
        self.agent.update_data_preview()
        self.interpreter = Interpreter(self.workspace, self.cfg.exec.timeout, False, self.cfg.exec.agent_file_name)
        self.longest_run = self.cfg.exec.timeout
        self.kept = settings.workspaces_dir / "step_submission.csv"
        self.attempt = 0
        self.maximize: dict[str, bool] = {}  # the direction that the review of each good node named
        self.best: Node | None = None
        self.best_attempt = 0
        self.unchosen_attempt = 0  # the step whose valid submission is in place though no review chose it
        self._save()

    def _description(self) -> str:
        path = self.settings.data_dir / "description.md"
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise AgentError(f"the task has no description: {path}: {error.strerror}") from None

    def run(self) -> int:
        """All steps; the exit code. The services must be ready."""
        instructions = (self.settings.workspaces_dir / "instructions.txt").read_text(encoding="utf-8", errors="replace")
        self.agent.task_desc = f"{instructions}\n\n{self.description}"
        self.models = Models(self.settings, self.usage)
        aide.agent.query = self.models.query
        print(f"code model {self.models.name('CODE')}, feedback model {self.models.name('FEEDBACK')}", flush=True)
        failures, over = 0, "all steps are done"
        try:
            while self.attempt < self.settings.step_limit and self.time_left() > 0:
                problem = self.step()
                failures = failures + 1 if problem else 0
                if failures == FAILURES_ALLOWED:
                    raise AgentError(f"{failures} steps in a row failed, the last: {problem}")
            if self.attempt < self.settings.step_limit or self.time_left() <= 0:
                over = "time is over"
        except TimeIsOver:
            over = "time is over"
        except TokensUsedUp:
            over = "tokens are used up"
        print(f"{over}: {self.usage.counts['steps']} steps, {self._best_in_words()}", flush=True)
        return 0

    def time_left(self) -> float:
        return self.models.deadline - time.time()

    def step(self) -> str | None:
        """One step of AIDE; why it brought no node, if so. Raises AgentError, TimeIsOver and TokensUsedUp."""
        self.attempt += 1
        started = time.monotonic()
        self.cfg.exec.timeout = max(1, int(min(self.longest_run, self.time_left())))  # the prompt names it
        problem, note = None, ""
        try:
            self.agent.step(exec_callback=self.execute)
        except (AgentError, TimeIsOver, TokensUsedUp):
            raise
        except Exception as error:
            problem = one_line(f"{type(error).__name__}: {error}")
        if problem is None:
            note = self._judge(self.journal[-1])
        for node in self.journal.nodes:  # AIDE links a node to its parent before it is complete
            node.children &= set(self.journal.nodes)
        self._save()
        self.usage.add(steps=1)
        self._tell(problem, note, time.monotonic() - started)
        return problem

    def execute(self, code: str, reset_session: bool = True) -> ExecutionResult:
        """Run a node's program, and take its submission before another can overwrite it."""
        write_file(self.settings.code_dir / f"step_{self.attempt:03d}.py", code)
        self.kept.unlink(missing_ok=True)
        self._tidy_workspace()
        submission = self.workspace / "working" / "submission.csv"
        remove(submission)
        self.interpreter.timeout = max(1.0, min(self.longest_run, self.time_left()))
        result = self.interpreter.run(code, reset_session)
        try:
            found = submission.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_SUBMISSION:
                os.replace(submission, self.kept)
        except OSError:
            pass
        return result

    def _tidy_workspace(self) -> None:
        """Make AIDE's layout, or what a program has deleted of it: ./working, and ./input with links to the data."""
        for folder in (self.workspace / "input", self.workspace / "working"):
            if folder.is_symlink() or not folder.is_dir():
                remove(folder)
                folder.mkdir(parents=True)
        for source in self.settings.data_dir.iterdir():
            link = self.workspace / "input" / source.name
            if not link.exists():
                remove(link)
                link.symlink_to(source.resolve())

    def _judge(self, node: Node) -> str:
        """Make the newest node's submission ours if it is the best and valid; what to say about it."""
        if node.is_buggy:
            return self._keep_unchosen(node)
        self.maximize[node.id] = node.metric.maximize
        self._agree_on_direction()
        if not self.kept.is_file():
            spoil(node, "The program wrote no regular file ./working/submission.csv of at most 1 GiB.")
            return "no submission"
        if self.best is not None and not node.metric > self.best.metric:
            return ""
        valid, message = self._validate()
        if valid is False:
            spoil(node, f"The grading server refuses ./working/submission.csv: {message}")
            return f"submission invalid: {message}"
        self.best, self.best_attempt = node, self.attempt
        self._submit(node, None)
        return f"submission {'valid' if valid else f'not validated: {message}'}"

    def _keep_unchosen(self, node: Node) -> str:
        """Submit what a step has written that counts as buggy, until there is one that doesn't: better than nothing."""
        if self.best is not None or not self.kept.is_file():
            return ""
        valid, message = self._validate()
        if not valid and (valid is False or self.unchosen_attempt):
            return f"submission {'invalid' if valid is False else 'not validated'}: {message}"
        self.unchosen_attempt = self.attempt
        self._submit(node, f"no review chose the submission: step {self.attempt} wrote it")
        return f"submission {'valid' if valid else f'not validated: {message}'}, kept though no review chose it"

    def _submit(self, node: Node, note: str | None) -> None:
        copy_file(self.kept, self.settings.submission_dir / "submission.csv")
        write_file(self.settings.code_dir / "best_solution.py", node.code)
        write_file(self.settings.logs_dir / "best_solution.py", node.code)
        self.usage.note = note

    def _agree_on_direction(self) -> None:
        """Give all metrics the direction that most reviews named: AIDE fails at the first that differs."""
        direction = Counter(self.maximize.values()).most_common(1)[0][0]
        for node in self.journal.good_nodes:
            node.metric.maximize = direction

    def _validate(self) -> tuple[bool | None, str]:
        """Ask the grading server about the newest submission: valid, and why not; None when it can't be asked."""
        for pause in (0.5, 1.5, 5, 0):
            self.models.refresh()  # a server that was restarted has another address
            server, token, certificate = (
                self.models.endpoints.get(f"GRADING_{name}", "") for name in ("SERVER", "TOKEN", "CA_FILE")
            )
            if not server:
                return None, "no grading server"
            timeout = max(1, min(300, self.time_left()))
            try:
                status, text = ask(self.kept, server, token, certificate, self.settings.competition_id, timeout)
                body = json.loads(text)
                message = one_line(str(body.get("result") or body.get("error") or body))
            except (OSError, ValueError, AttributeError, RecursionError) as error:
                status, message = 0, one_line(str(error))
            if 0 < status < 500:
                break
            time.sleep(max(0, min(pause, self.time_left())))
        if status not in (200, 400, 413, 422):
            return None, message
        return status == 200 and message.lower().startswith("submission is valid"), message

    def _save(self) -> None:
        write_file(self.settings.logs_dir / "journal.json", journal_json(self.journal))

    def _tell(self, problem: str | None, note: str, seconds: float) -> None:
        if problem:
            what = f"failed: {problem}"
        else:
            node = self.journal[-1]
            way = "higher" if node.metric.maximize else "lower"
            what = "buggy" if node.is_buggy else f"metric {node.metric.value:.5g} ({way} is better)"
            if node.is_buggy and node.exc_type:
                what += f" ({node.exc_type})"
        told = [
            f"step {self.attempt}/{self.settings.step_limit}: {what}",
            note,
            f"{seconds:.1f} s",
            self._best_in_words(),
        ]
        print(", ".join(part for part in told if part), flush=True)

    def _best_in_words(self) -> str:
        if self.best is None and self.unchosen_attempt:
            return f"a submission that no review chose (step {self.unchosen_attempt})"
        if self.best is None:
            return "no submission so far"
        return f"best {self.best.metric.value:.5g} (step {self.best_attempt})"


def configuration(settings: Settings) -> Config:
    """AIDE's configuration: its defaults, AIDE_OPTIONS, the host's settings. Also written to LOGS_DIR/config.yaml."""
    options = os.environ.get("AIDE_OPTIONS", "")  # key=value pairs of AIDE's own configuration
    try:
        cfg = OmegaConf.merge(_load_cfg(use_cli_args=False), OmegaConf.from_dotlist(shlex.split(options)))
        cfg.data_dir = str(settings.data_dir)
        cfg.desc_file = str(settings.data_dir / "description.md")
        cfg.log_dir, cfg.workspace_dir = str(settings.logs_dir), str(settings.workspaces_dir)
        cfg.exp_name = "aide"
        cfg.preprocess_data = cfg.copy_data = cfg.generate_report = False
        cfg.agent.steps = settings.step_limit
        cfg = prep_cfg(cfg)
    except (OmegaConfBaseException, ValueError) as error:
        raise AgentError(f"AIDE_OPTIONS={options!r}: {one_line(str(error))}") from None
    cfg.log_dir, cfg.workspace_dir = settings.logs_dir, settings.workspaces_dir.resolve() / "aide"
    plain = json.loads(json.dumps(OmegaConf.to_container(cfg), default=str))
    write_file(settings.logs_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
    return cfg


def spoil(node: Node, reason: str) -> None:
    """Turn a node into one that AIDE takes for buggy, with the reason where the model will see it."""
    node.is_buggy, node.metric = True, WorstMetricValue()
    node.analysis = f"{node.analysis} {reason}".strip()
    node._term_out = [*node._term_out, f"\n{reason}\n"]


def journal_json(journal: Journal) -> str:
    """The journal as aide.utils.serialize writes it, without its deep copy, which fails on long chains of nodes."""
    plain = Journal([dataclasses.replace(node, parent=None, children=set()) for node in journal.nodes]).to_dict()
    plain["node2parent"] = {node.id: node.parent.id for node in journal.nodes if node.parent is not None}
    return json.dumps(plain | {"__version": "2"}, separators=(",", ":"))


def copy_file(source: Path, target: Path) -> None:
    """Copy so that the target is never half a file."""
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)  # a program may have put a link there
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there; a folder that resists is put aside."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except (OSError, RecursionError):
            os.replace(path, path.with_name(f".{path.name}.{time.time_ns()}"))
    else:
        path.unlink(missing_ok=True)
