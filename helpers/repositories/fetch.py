"""One commit of a repository that lies elsewhere: on a server, in a clone, in a bundle, or as plain files without any git."""

from __future__ import annotations

import os
import re
from pathlib import Path

from helpers.repositories.own_git import GitError, Repository
from helpers.repositories.schema import Repo
from helpers.repositories.source import is_url

FETCH = ("fetch", "--quiet", "--no-tags")
WHOLE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# what git says, and what it means for a person
SAID = (
    (
        r"could not read (?:Username|Password)|Authentication failed|Permission denied|Host key verification failed",
        "asks for a login, or isn't there: clone it with your own git, and give the clone's path as repo.git_url",
    ),
    (
        r"[Rr]epository .*not found|does not appear to be a git repository|not a git repository",
        "there is no repository there",
    ),
    (
        r"dubious ownership",
        "belongs to another user, whose settings git would follow: copy it, or ask for a bundle of it (git bundle)",
    ),
    (r"transport '.*' not allowed", "is reached by a protocol that isn't allowed here"),
)


def fetch(into: Repository, place: str, repo: Repo) -> tuple[str, str]:
    """The tree that a task begins with, brought into a repository of ours, and the number of its commit there.

    Plain files have no commit: the number is then that of the one made here. Raises GitError, whose message is for a person.
    """
    if not is_url(place) and is_plain(place):
        return _plain(into, place, repo)
    if repo.start_commit_sha is None:
        raise GitError(f"repo.start_commit_sha must be set: {repo.git_url} is a repository, and its branches move on")
    if not is_url(place) and not os.path.exists(place):
        raise GitError(f"repo.git_url: there is no {place}")
    try:
        commit = _commit(into, place, repo.start_commit_sha, repo.branch)
    except GitError as error:
        raise GitError(_told(error, repo.git_url), error.said) from None
    return into.line("rev-parse", f"{commit}^{{tree}}"), commit


def is_plain(place: str) -> bool:
    """Whether a place is a folder of plain files, without any git."""
    folder = Path(place)
    return folder.is_dir() and not (folder / ".git").exists() and not (folder / "objects").is_dir()


def _plain(into: Repository, place: str, repo: Repo) -> tuple[str, str]:
    if repo.start_commit_sha or repo.branch:
        raise GitError(
            f"{repo.git_url} holds plain files, without any git: leave repo.start_commit_sha and repo.branch out"
        )
    for base, inner, names in os.walk(place):
        if ".git" in (*inner, *names):
            raise GitError(
                f"{os.path.relpath(base, place)} in {repo.git_url} is a repository of its own: delete its .git"
            )
    tree = into.tree_of_folder(Path(place).resolve())
    return tree, into.commit_of(tree)


def _commit(into: Repository, place: str, wanted: str, branch: str | None) -> str:
    """Bring a commit, with as little beside it as this place allows. Raises GitError."""
    is_bundle = os.path.isfile(place)
    if WHOLE.fullmatch(wanted) and not is_bundle:
        try:
            into.run(*FETCH, "--depth=1", place, wanted)
            return wanted
        except GitError as error:
            # an older server gives only what a branch or a tag points to
            if not re.search(r"not our ref|unadvertised object|find remote ref|not a valid object", error.said):
                raise
    ways = [["+refs/heads/*:refs/source/heads/*", "+refs/tags/*:refs/source/tags/*"]]
    if branch:
        ways.insert(0, [f"+refs/heads/{branch}:refs/source/branch"])
    for refs in ways:
        into.run(*FETCH, place, *refs)
        if into.has(wanted):
            return into.line("rev-parse", "--verify", f"{wanted}^{{commit}}")
    raise GitError(f"has no commit {wanted} on any branch or tag (repo.start_commit_sha)")


def _told(error: GitError, place: str) -> str:
    if found := re.search(r"couldn't find remote ref refs/heads/(\S+)", error.said):
        return f"{place}: there is no branch {found[1]} (repo.branch)"
    told = next((text for pattern, text in SAID if re.search(pattern, error.said)), None)
    return f"{place}: {told or error}"
