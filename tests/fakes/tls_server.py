"""A server for tests of who is believed: tls_server.py PORT LOG [CERT KEY [BYTES]]

Listens on loopback (port 0: any), prints its port, answers every request with 200 and `{}`, with TLS where it has a certificate, and
appends to LOG whatever reaches it in clear.
"""

import socket
import ssl
import sys
import threading


def main() -> None:
    port, log = int(sys.argv[1]), sys.argv[2]
    context = None
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
    listener = socket.create_server(("127.0.0.1", port))
    print(listener.getsockname()[1], flush=True)
    while True:
        client = listener.accept()[0]
        threading.Thread(target=answer, args=(client, context, log), daemon=True).start()


def answer(client: socket.socket, context: ssl.SSLContext | None, log: str) -> None:
    try:
        if context:
            client = context.wrap_socket(client, server_side=True)
        data = client.recv(65536)
        with open(log, "ab") as file:
            file.write(data)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    except OSError:
        pass
    finally:
        client.close()


main()
