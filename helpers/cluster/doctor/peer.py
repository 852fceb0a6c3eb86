"""What a probe of `site.sh doctor` runs inside an image, or with a node's own Python: listens, asks, counts GPUs.

Runs on nodes, from Python 3.6 on, with its own library alone. scripts_hpc/lib/doctor_node.sh calls it.
"""

import glob
import os
import random
import socket
import subprocess
import sys
import threading
import time

LIFE_SECONDS = 60.0  # a listener that nobody ends
ANSWER_SECONDS = 4.0
TRIES = 50


def bound(lowest=0, highest=0):
    """A socket that listens on all interfaces, at any port, or at a free one of a range. Raises OSError."""
    for _ in range(TRIES):
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            server.bind(("0.0.0.0", random.randint(lowest, highest) if highest else 0))
        except OSError as error:
            server.close()
            last = error
            continue
        server.listen(16)
        return server
    raise last


def _serve(server, word):
    while True:
        connection, _ = server.accept()
        try:
            connection.sendall(word.encode() + b"\n")
        except OSError:
            pass
        connection.close()


def listen(word, file, lowest, highest):
    """Answer each connection with the word; the two ports go into the file once they listen."""
    servers = [bound(), bound(int(lowest), int(highest))]
    for server in servers:
        threading.Thread(target=_serve, args=(server, word), daemon=True).start()
    with open(file + "~", "w") as ports:
        ports.write(" ".join(str(server.getsockname()[1]) for server in servers) + "\n")
    os.rename(file + "~", file)
    time.sleep(LIFE_SECONDS)


def answer(host, port, word):
    """`yes`, or why what listens there isn't what says the word."""
    try:
        connection = socket.create_connection((host, int(port)), ANSWER_SECONDS)
    except OSError as error:
        return "timed out" if isinstance(error, socket.timeout) else error.strerror or str(error)
    try:
        connection.settimeout(ANSWER_SECONDS)
        said = connection.recv(200).decode("utf-8", "replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        connection.close()
    return "yes" if said == word else "somebody else answers there"


def ask(word, targets):
    """Ask all targets (LABEL=HOST=PORT) at the same time; a line `reach LABEL HOST PORT answer` for each."""
    lines = {}

    def one(target):
        label, host, port = target.split("=")
        lines[target] = f"reach {label} {host} {port} {answer(host, port, word)}"

    threads = [threading.Thread(target=one, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * ANSWER_SECONDS + 1)
    for target in targets:
        print(lines.get(target, "reach {} timed out".format(target.replace("=", " "))))


def gpus():
    """One line: how many GPUs can be opened here, and what the vendor's tool calls them."""
    devices = glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dri/renderD*")
    count = 0
    for device in devices:
        try:
            os.close(os.open(device, os.O_RDWR))
            count += 1
        except OSError:
            pass
    for command in (["nvidia-smi", "-L"], ["rocm-smi", "--showproductname"]):
        try:
            said = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=15).decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            continue
        named = [line.split("(UUID")[0].strip() for line in said.splitlines() if line.startswith("GPU ")]
        if named:
            print("{} {}".format(len(named), "; ".join(sorted({name.split(": ")[-1] for name in named}))))
            return
    print("{} {}".format(count, "devices" if count else "none can be opened"))


if __name__ == "__main__":
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "listen":
        listen(*arguments)
    elif verb == "ask":
        ask(arguments[0], arguments[1:])
    else:
        gpus()
