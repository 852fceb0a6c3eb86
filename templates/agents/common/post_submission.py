"""Asks a grading server whether a file is a valid submission. Needs nothing but Python 3.6.

Usage: post_submission.py FILE
Reads GRADING_SERVER, GRADING_TOKEN, GRADING_CA_FILE and COMPETITION_ID. Prints the body of the answer, then its HTTP status
on a line of its own (000 and the reason where there was no answer). Agents in Python import `ask`.
"""

import http.client
import os
import ssl
import sys
import urllib.error
import urllib.request
import uuid

LONGEST_ANSWER = 1 << 20  # bytes


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for the server that it was given for."""

    def redirect_request(self, *_):
        return None


def pinned(certificate):
    """A TLS context that trusts the one certificate in a PEM file, and checks its host name. Raises OSError."""
    context = ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # no other authority; nor RFC 5280 to the letter, as of Python 3.13
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise OSError(f"the certificate {certificate} can't be read: {error}") from None
    return context


def ask(file, server, token="", certificate="", competition="", timeout=300):
    """Send a file to /validate: HTTP status and body of the answer. Raises OSError where there is none.

    certificate: path of the server's own, without which the usual authorities and the environment's proxies are used.
    """
    handlers = [NoRedirect()]
    if certificate:
        handlers += [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=pinned(certificate))]
    boundary = uuid.uuid4().hex
    head = ""
    if competition:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="competition"\r\n\r\n{competition}\r\n'
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="submission.csv"\r\n\r\n'
    head, tail = head.encode(), f"\r\n--{boundary}--\r\n".encode()
    with open(file, "rb") as content:
        size = os.fstat(content.fileno()).st_size
        headers = {
            "Content-Type": "multipart/form-data; boundary=" + boundary,
            "Content-Length": str(len(head) + size + len(tail)),
        }
        if token:
            headers["Authorization"] = "Bearer " + token
        request = urllib.request.Request(server + "/validate", parts(head, content, size, tail), headers)
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
                return answer.status, text_of(answer)
        except urllib.error.HTTPError as error:
            return error.code, text_of(error)
        except urllib.error.URLError as error:
            raise OSError(error.reason) from None
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {error!r}") from None


def parts(head, content, size, tail):
    """The body of a request, a piece at a time; a file that grows meanwhile is sent as it was."""
    yield head
    while size > 0:
        piece = content.read(min(size, 1 << 16))
        if not piece:
            raise OSError("the file has become shorter while it was sent")
        size -= len(piece)
        yield piece
    yield tail


def text_of(answer):
    return answer.read(LONGEST_ANSWER).decode("utf-8", "replace").strip()


def main():
    names = ("GRADING_SERVER", "GRADING_TOKEN", "GRADING_CA_FILE", "COMPETITION_ID")
    try:
        status, body = ask(sys.argv[1], *(os.environ.get(name, "") for name in names))
    except (OSError, ValueError) as error:
        status, body = 0, str(error)
    print(f"{body}\n{status:03d}")


if __name__ == "__main__":
    main()
