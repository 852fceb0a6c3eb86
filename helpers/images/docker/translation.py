"""The instructions of a Dockerfile, one after the other, as steps of a recipe."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Mapping

from helpers.images.docker import words
from helpers.images.docker.context import Context, Copy, Entry, describe
from helpers.images.docker.recipe import Recipe, Scope, own_platform, platform_arguments
from helpers.images.docker.syntax import Dockerfile, Document, Fault, Instruction, documents_in, is_document
from helpers.images.docker.words import NotKnown, quoted

IMAGE = "or build an image that has it, and name it as the task's `image`"
REFUSED = {
    "ENTRYPOINT": "containers here run the commands that they are given: say it as CMD",
    "HEALTHCHECK": "nothing asks after a container's health here: leave it out",
    "ONBUILD": "it is for Dockerfiles that build upon this one, and there are none here: leave it out",
    "VOLUME": "what a container may write is bound by who runs it: leave it out (RUN mkdir -p makes the folder)",
}
WITHOUT_MEANING = ("EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL")
PACKED = (".tar.zst", ".tzst")  # archives that Python before 3.14 can't look into
_SCRIPT = 'script=$(mktemp) && printf %s "$1" >"$script" && chmod 700 "$script" || exit; "$script"; code=$?; rm -f "$script"; exit "$code"'


class Translation:
    """Makes a recipe; what can't be done is gathered as faults, so that all are told at once."""

    def __init__(self, parsed: Dockerfile, context: Context, arguments: Mapping[str, str]):
        self.parsed, self.context = parsed, context
        self.scope = Scope(dict(arguments))
        self.recipe = Recipe(identity=[f"escape {parsed.escape}"])
        self.faults: list[Fault] = []
        self.shell = ["/bin/sh", "-c"]

    def make(self) -> Recipe:
        """The recipe; of use where there are no faults. Raises OSError for files that can't be read."""
        for instruction in self.parsed.instructions:
            try:
                self._take(instruction)
            except Fault as fault:
                self.faults.append(fault)
            except NotKnown as error:
                told = f"the value of {error.name} isn't set in this Dockerfile: write it out, or give the ARG a value"
                self.faults.append(Fault(instruction.line, f"{instruction.name}: {told}"))
            except ValueError as error:
                self.faults.append(Fault(instruction.line, f"{instruction.name}: {error}"))
        if not self.recipe.base and not self.faults:
            self.faults.append(Fault(1, "there is no FROM"))
        declared = {
            word.partition("=")[0] for one in self.parsed.instructions if one.name == "ARG" for word in self._split(one)
        }
        for name in self.scope.given.keys() - declared:
            self.faults.append(Fault(1, f"build argument {name}: there is no ARG of that name"))
        self.recipe.identity += [f"argument {name}={value!r}" for name, value in sorted(self.scope.given.items())]
        return self.recipe

    def _take(self, one: Instruction) -> None:
        texts = [(document.name, document.text, document.expand) for document in one.documents]
        self.recipe.identity.append(f"{one.name} {one.flags} {one.rest!r} {texts}")
        if one.name not in ("FROM", "ARG") and not self.recipe.base:
            if self.faults:
                return
            raise Fault(one.line, f"{one.name} before FROM")
        if one.name in REFUSED and not self._harmless(one):
            raise Fault(one.line, f"{one.name}: {REFUSED[one.name]}; {IMAGE}")
        if one.name in WITHOUT_MEANING:
            self._note(one, "has no meaning here")
        elif one.name not in REFUSED:
            getattr(self, f"_{one.name.lower()}")(one)
        self.recipe.lines += self.scope.checks(one.line)

    def _harmless(self, one: Instruction) -> bool:
        return (one.name, one.rest.upper()) == ("HEALTHCHECK", "NONE") or (one.name == "ENTRYPOINT" and one.json == [])

    def _note(self, one: Instruction, text: str) -> None:
        self.recipe.notes.append(f"line {one.line}: {one.name} {text}")

    def _split(self, one: Instruction) -> list[str]:
        return words.split(one.rest, self.parsed.escape)

    def _read(self, text: str, *, quotes: bool = True) -> words.Word:
        return words.read(text, self.parsed.escape, quotes=quotes)

    def _value(self, text: str) -> str:
        return words.evaluate(self._read(text), self.scope.likely)

    # ---- the base, and variables

    def _from(self, one: Instruction) -> None:
        if self.recipe.base:
            raise Fault(one.line, f"a second FROM: only Dockerfiles of one stage are built here; {IMAGE}")
        values = [words.evaluate(self._read(word), self.scope.before) for word in self._split(one)]
        if len(values) not in (1, 3) or not values[0] or (len(values) == 3 and values[1].upper() != "AS"):
            raise Fault(one.line, f"FROM {one.rest}: wants an image's name, as in FROM python:3.11-slim")
        if values[0] == "scratch":
            raise Fault(one.line, f"FROM scratch: an image without a shell runs nothing here; {IMAGE}")
        for flag, value in one.flags:
            wanted = words.evaluate(self._read(value), (platform_arguments() | self.scope.outer).get)
            if flag != "platform" or wanted != own_platform():
                raise Fault(
                    one.line,
                    f"--{flag}={value}: images are built for the machine that builds them, {own_platform()}; {IMAGE}",
                )
        self.recipe.base = values[0]

    def _arg(self, one: Instruction) -> None:
        for word in self._split(one):
            name, equals, default = word.partition("=")
            self._name(one, name)
            if self.recipe.base:
                self.recipe.lines += self.scope.argument(name, self._read(default) if equals else None)
            elif name in self.scope.given:
                self.scope.outer[name] = self.scope.given[name]
            elif equals:
                self.scope.outer[name] = words.evaluate(self._read(default), self.scope.before)

    def _env(self, one: Instruction) -> None:
        found = self._split(one)
        if found and "=" in found[0]:
            split = [word.partition("=") for word in found]
        else:  # ENV name the whole rest
            split = [re.sub(r"\s+", " ", one.rest, count=1).partition(" ")]
        if not all(between for _, between, _ in split):
            raise Fault(one.line, f"ENV {one.rest}: wants name=value, and quotes around a value with blanks")
        pairs = [(name, value) for name, _, value in split]
        for name, _ in pairs:
            self._name(one, name)
        self.recipe.lines += self.scope.environment([(name, self._read(value)) for name, value in pairs])
        self.recipe.names += [name for name, _ in pairs if name not in self.recipe.names]

    def _name(self, one: Instruction, name: str) -> None:
        if not words.NAME.fullmatch(name):
            raise Fault(
                one.line, f"{one.name}: '{name}' is no name that a shell can export (letters, digits and _ only)"
            )

    # ---- what runs

    def _run(self, one: Instruction) -> None:
        for flag, value in one.flags:
            kind = re.search(r"(?:^|,)type=(\w+)", value)
            if flag == "mount" and kind and kind[1] in ("cache", "tmpfs"):
                self._note(one, f"--mount=type={kind[1]}: what it writes there stays in the image")
            elif (flag, value) not in (("network", "default"), ("network", "host"), ("security", "sandbox")):
                raise Fault(
                    one.line, f"RUN --{flag}={value}: only mounts of type cache and tmpfs can be done without; {IMAGE}"
                )
        if not one.rest:
            raise Fault(one.line, "RUN: there is nothing to run")
        alone = bool(one.documents) and documents_in(one.rest, self.parsed.escape)
        if one.json is not None:
            command = one.json
        elif alone and one.documents[0].text.startswith("#!"):
            command = ["/bin/sh", "-c", _SCRIPT, "sh", one.documents[0].text]
        elif alone:
            command = [*self.shell, one.documents[0].text]
        else:
            command = [*self.shell, "\n".join([one.rest, *(f"{part.text}{part.name}" for part in one.documents)])]
        shown = re.sub(r"\s+", " ", f"line {one.line}: RUN {one.rest}")
        shown = shown if len(shown) <= 90 else f"{shown[:89]}…"
        self.recipe.lines.append(f"run {' '.join(map(quoted, [shown, *command]))}")

    def _shell(self, one: Instruction) -> None:
        if not one.json:
            raise Fault(one.line, 'SHELL wants a JSON list, as in SHELL ["/bin/bash", "-c"]')
        self.shell = one.json

    def _cmd(self, one: Instruction) -> None:
        command = one.json if one.json is not None else [*self.shell, one.rest]
        self.recipe.command = " ".join(map(quoted, command)) or None

    def _user(self, one: Instruction) -> None:
        name = self._value(one.rest)
        if name.partition(":")[0] not in ("root", "0"):
            raise Fault(
                one.line,
                f"USER {name}: whoever runs an image is its user here, and it is built as root: leave it out; {IMAGE}",
            )

    def _workdir(self, one: Instruction) -> None:
        path = self._value(one.rest)
        if not path:
            raise Fault(one.line, "WORKDIR wants a folder")
        self.recipe.workdir = self._absolute(one, path)
        self.recipe.lines.append(f"enter {quoted(self.recipe.workdir)}")

    def _absolute(self, one: Instruction, path: str) -> str:
        made = posixpath.normpath("/" + posixpath.join(self.recipe.workdir, path).lstrip("/"))
        if made == "/mnt" or made.startswith("/mnt/"):
            raise Fault(one.line, f"{one.name}: {made}: what the build needs is bound to /mnt: choose another folder")
        return made

    # ---- what is copied

    def _copy(self, one: Instruction) -> None:
        mode = self._copy_flags(one)
        given = one.json if one.json is not None else self._split(one)
        if len(given) < 2:
            raise Fault(one.line, f"{one.name} wants sources and a destination")
        target = self._value(given[-1])
        copy = Copy(len(self.recipe.copies) + 1, "", mode)
        folder = target.endswith(("/", "/.", "/..")) or target in ("", ".", "..")
        documents = list(one.documents)
        files = 0
        for source in given[:-1]:
            if documents and is_document(source):
                entries, inside = [self._document(documents.pop(0))], False
            else:
                entries, inside = self._entries(one, self._value(source))
            copy.entries += entries
            folder = folder or inside
            files += 1 if inside else len(entries)
        if files > 1 and not folder:
            raise Fault(one.line, f"{one.name}: several sources want a destination that ends with /, not {target}")
        copy.destination = self._absolute(one, target).rstrip("/") + "/" * folder
        if not copy.entries and not folder:
            self._note(one, f"copies nothing: {' '.join(given[:-1])} fits no file")
            return
        self.recipe.copies.append(copy)
        self.recipe.identity += [describe(entry) for entry in copy.entries]
        line = ["put", str(copy.number), quoted(copy.destination), *([mode] if mode else [])]
        self.recipe.lines.append(" ".join(line))

    _add = _copy

    def _copy_flags(self, one: Instruction) -> str | None:
        mode = None
        for flag, value in one.flags:
            if flag == "from":
                raise Fault(
                    one.line, f"{one.name} --from={value}: only Dockerfiles of one stage are built here; {IMAGE}"
                )
            if flag == "chown":
                self._note(one, f"--chown={value}: files belong to root, and whoever runs the image can read them")
            elif flag == "chmod":
                mode = self._value(value)
                if not re.fullmatch(r"[0-7]{3,4}", mode):
                    raise Fault(one.line, f"{one.name} --chmod={value}: wants an octal number, as 755")
            elif flag != "link":
                raise Fault(one.line, f"{one.name} --{flag}: isn't done here; {IMAGE}")
        return mode

    def _document(self, document: Document) -> Entry:
        text = document.text
        if document.expand:
            text = words.evaluate(self._read(text, quotes=False), self.scope.likely)
        return Entry(document.name, "file", text=text)

    def _entries(self, one: Instruction, source: str) -> tuple[list[Entry], bool]:
        if one.name == "ADD" and re.match(r"[a-z+]+://|git@", source):
            raise Fault(
                one.line, f"ADD {source}: fetch it with RUN curl or RUN git clone, at a version that is fixed; {IMAGE}"
            )
        entries, inside = self.context.entries(source)
        for entry in entries if one.name == "ADD" and not inside else []:
            path = entry.source
            if path and path.is_file() and (path.name.endswith(PACKED) or tarfile.is_tarfile(path)):
                raise Fault(
                    one.line,
                    f"ADD {source}: is an archive, which Docker would unpack: COPY it, and unpack it with RUN tar",
                )
        return entries, inside
