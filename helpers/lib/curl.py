"""Stands in for curl on a machine that has none: just the options that scripts_hpc/lib uses; the bearer token comes from HAB_TOKEN.

Exit codes are curl's (https://curl.se/libcurl/c/libcurl-errors.html): 7 no answer, 22 an HTTP error with --fail, 23 the answer can't be
written, 26 the upload can't be read, 28 out of time, 56 the answer broke off, 60 the server hasn't the certificate that --cacert asks for.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

import requests


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options, by curl's names; an unknown one is an error."""
    parser = argparse.ArgumentParser(prog="helpers.curl", description=__doc__, allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("--noproxy", help="'*': go directly; else through the proxies of the environment")
    parser.add_argument("--max-time", type=float, default=60)
    parser.add_argument("--output")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--write-out", default="")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--data")
    parser.add_argument("--form", action="append", default=[])
    parser.add_argument("--cacert", help="trust the certificates in this file alone")
    parser.add_argument("--capath", help="accepted for curl's sake")
    return parser.parse_args(argv)


def request(options: argparse.Namespace) -> requests.Response:
    """Send the request; raises requests' errors, and OSError when the upload can't be read."""
    headers = dict(header.split(": ", 1) for header in options.header)
    if os.environ.get("HAB_TOKEN"):
        headers["Authorization"] = f"Bearer {os.environ['HAB_TOKEN']}"
    files: dict[str, tuple[str | None, object]] = {}
    for field in options.form:
        name, value = field.split("=", 1)
        path, _, filename = value.removeprefix("@").partition(";filename=")
        files[name] = (filename, open(path, "rb")) if value.startswith("@") else (None, value)
    session = requests.Session()
    session.trust_env = False  # it would send what ~/.netrc holds in place of the token
    if options.noproxy != "*":
        session.proxies = requests.utils.get_environ_proxies(options.url)
    if options.cacert:
        session.verify = options.cacert
    method = "POST" if files or options.data is not None else "GET"
    return session.request(
        method,
        options.url,
        headers=headers,
        data=options.data,
        files=files or None,
        timeout=options.max_time,
        stream=True,
    )


def _late(*_: Any) -> None:
    raise requests.Timeout("Operation timed out")


def _write(answer: requests.Response, output: str | None) -> None:
    """Write the body as it comes, for it may have no end."""
    file = open(output, "wb") if output else sys.stdout.buffer
    try:
        for part in answer.iter_content(65536):
            file.write(part)
        file.flush()
    finally:
        if output:
            file.close()


def _fail(code: int, problem: object) -> int:
    print(f"curl: ({code}) {problem}", file=sys.stderr)
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one request as curl would; returns curl's exit code."""
    options = arguments(argv)
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, options.max_time)
    try:
        answer = request(options)
        if options.fail and answer.status_code >= 400:
            return _fail(22, f"The requested URL returned error: {answer.status_code}")
    except requests.Timeout as error:
        return _fail(28, error)
    except requests.exceptions.SSLError as error:
        return _fail(60, error)
    except requests.RequestException as error:
        return _fail(7, error)
    except OSError:
        return 26
    try:
        _write(answer, options.output)
    except requests.Timeout as error:
        return _fail(28, error)
    except requests.RequestException as error:
        return _fail(56, error)
    except OSError:
        return 23
    sys.stdout.write(options.write_out.replace("%{http_code}", str(answer.status_code)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
