"""Another user's process on a node, which wants to be taken for a server: stranger.py LOG PORT|PATTERN

Takes the port as soon as it is free, or the one behind --port on the first command line that holds PATTERN; writes `listening on PORT` to
LOG, answers every request, with TLS (a certificate of its own) or without, as if all were well, and appends to LOG what it was told.
"""

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

ANSWER = b"""{"status": "running", "result": "Submission is valid.", "valid_submission": true, "score": 1.0, "total_score": 1.0,
 "token": "a.b", "data": [{"id": "all"}], "choices": [{"message": {"content": "print(1)"}, "finish_reason": "stop"}]}"""


def command_lines() -> list[str]:
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                lines.append(file.read().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            pass
    return lines


def port_of(wanted: str) -> int:
    if wanted.isdigit():
        return int(wanted)
    while True:
        for line in command_lines():
            found = re.search(r"--port (\d\d+) ", line)
            if wanted in line and "stranger.py" not in line and found:
                return int(found[1])


def listener(port: int) -> socket.socket:
    while True:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("0.0.0.0", port))
            one.listen(50)
            return one
        except OSError:
            one.close()


def certificate() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        key, cert = f"{folder}/key.pem", f"{folder}/cert.pem"
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:n1.hab.internal,DNS:n2.hab.internal,DNS:g1.hab.internal"
        command = (
            f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=us -addext {names} -keyout {key} -out {cert}"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context


def answer(client: socket.socket, context: ssl.SSLContext, log: str) -> None:
    try:
        client.settimeout(20)
        if client.recv(1, socket.MSG_PEEK) == b"\x16":  # a TLS handshake
            client = context.wrap_socket(client, server_side=True)
        told = client.recv(1 << 20)
        with open(log, "ab") as file:
            file.write(b"told: " + told + b"\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % len(ANSWER) + ANSWER)
    except OSError:
        pass
    finally:
        client.close()


def main() -> None:
    log, wanted = sys.argv[1:]
    context = certificate()
    with open(log, "a") as file:
        file.write("ready\n")
    port = port_of(wanted)
    ours = listener(port)
    with open(log, "a") as file:
        file.write(f"listening on {port}\n")
    while True:
        client = ours.accept()[0]
        threading.Thread(target=answer, args=(client, context, log), daemon=True).start()


main()
