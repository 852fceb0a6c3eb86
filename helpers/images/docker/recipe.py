"""What becomes of a Dockerfile: a base image, and lines of shell that do what its instructions do, in their order."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass, field

from helpers.images.docker import words
from helpers.images.docker.context import Copy
from helpers.images.docker.words import NotKnown, Word, quoted

# https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le"}


def own_platform() -> str:
    """This machine as Docker names it: linux/amd64."""
    return f"linux/{ARCHITECTURES.get(platform.machine(), platform.machine())}"


def platform_arguments() -> dict[str, str]:
    """The build arguments that BuildKit sets by itself; images are built for the machine that builds them."""
    system, _, machine = own_platform().partition("/")
    values = {"PLATFORM": own_platform(), "OS": system, "ARCH": machine, "VARIANT": ""}
    return {f"{prefix}{key}": value for prefix in ("TARGET", "BUILD") for key, value in values.items()}


@dataclass
class Recipe:
    """A Dockerfile as steps of a build.

    base: the image that FROM names. lines: of %post. names: of ENV, kept for the run. workdir: where commands begin, absolute.
    command: CMD as words for a shell, where there is one. notes: what was left out, a line each. identity: what the image is made
    of, a line each, the same wherever the Dockerfile lies.
    """

    base: str = ""
    lines: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    workdir: str = "/"
    command: str | None = None
    copies: list[Copy] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    identity: list[str] = field(default_factory=list)


class Scope:
    """The variables of a stage. ENV goes before ARG, and so does the base image's ENV, which is known only in the build.

    A value that is None is one that a variable of the base image is part of.
    """

    def __init__(self, given: dict[str, str]):
        self.given = given
        self.outer: dict[str, str] = {}  # ARG before FROM
        self.env: dict[str, str | None] = {}
        self.args: dict[str, str | None] = {}
        self.assumed: dict[str, str] = {}

    def before(self, name: str) -> str | None:
        """The value of a variable for FROM, and for ARG before it."""
        return self.outer.get(name)

    def certain(self, name: str) -> str | None:
        """The value of a variable where it is the same whatever the base image sets. Raises NotKnown."""
        if not words.NAME.fullmatch(name):
            return None  # $1, $@ and the like
        value = self.env.get(name)
        if value is None:
            raise NotKnown(name)
        return value

    def likely(self, name: str) -> str | None:
        """The same, and an ARG's value as if the base image didn't set that name; noted in `assumed`. Raises NotKnown."""
        if name not in self.env and (value := self.args.get(name)) is not None:
            self.assumed[name] = value
            return value
        return self.certain(name)

    def argument(self, name: str, default: Word | None) -> list[str]:
        """Declare an ARG; the lines of shell that set it. Raises ValueError."""
        if name in self.given:
            default = (self.given[name],) if self.given[name] else ()
        elif default is None and (known := (platform_arguments() | self.outer).get(name)) is not None:
            default = (known,) if known else ()
        if default is None or name in self.env:
            return []
        first = name not in self.args
        expression = words.shell(default, self.certain)
        # once more for what copies and folders are named by
        self.args[name] = None
        with contextlib.suppress(NotKnown):
            self.args[name] = words.evaluate(default, self.likely)
            self.assumed.clear()
        unless = f'[ "${{{name}+set}}" ] || ' if first else ""
        return [f"{unless}{name}={expression}", f"export {name}"]

    def environment(self, pairs: list[tuple[str, Word]]) -> list[str]:
        """Set the variables of one ENV, none of which sees the others' new values. Raises ValueError."""
        expressions = [words.shell(word, self.certain) for _, word in pairs]
        made: dict[str, str | None] = {}
        for name, word in pairs:
            made[name] = None
            with contextlib.suppress(NotKnown):
                made[name] = words.evaluate(word, self.certain)
        self.env |= made
        names = [name for name, _ in pairs]
        if len(pairs) == 1 or None not in made.values():
            settings = [f"{name}={expression}" for name, expression in zip(names, expressions, strict=True)]
        else:
            settings = [f"HAB_{place}={expression}" for place, expression in enumerate(expressions)]
            settings += [f"{name}=$HAB_{place}" for place, name in enumerate(names)]
        return [*settings, f"export {' '.join(dict.fromkeys(names))}"]

    def checks(self, line: int) -> list[str]:
        """Lines of shell that fail where the base image sets what was assumed to be an ARG's value."""
        made = [
            f'[ "${{{name}-}}" = {quoted(value)} ] || '
            f"fail 'line {line} uses the ARG {name}, but the base image sets a variable {name} of its own: name the ARG otherwise'"
            for name, value in self.assumed.items()
        ]
        self.assumed.clear()
        return made
