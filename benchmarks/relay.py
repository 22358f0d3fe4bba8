"""A line with a delay: passes TCP connections on, every byte so many milliseconds later.

`python benchmarks/relay.py ADDRESS:PORT ADDRESS:PORT MILLISECONDS`. For machines whose kernel has
no netem. Each side speaks TCP with the relay, so a program's own windows feel the delay and TCP's
do not.
"""

import contextlib
import queue
import socket
import sys
import threading
import time

BLOCK = 256 * 1024
GATHER = 0.0005  # seconds: as a network card gathers packets before it interrupts
HELD = 64 * 1024 * 1024 // BLOCK  # blocks on the line at most


def pump(source: socket.socket, sink: socket.socket, delay: float) -> None:
    line: queue.Queue[tuple[float, bytes]] = queue.Queue(HELD)

    def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = line.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    threading.Thread(target=deliver, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            line.put((time.monotonic() + delay, data))
            time.sleep(GATHER)
    line.put((time.monotonic() + delay, b""))


def place(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address, int(port)


def main() -> None:
    here, there, delay = place(sys.argv[1]), place(sys.argv[2]), float(sys.argv[3]) / 1000
    with socket.create_server(here) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(there)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=pump, args=(source, sink, delay), daemon=True).start()


if __name__ == "__main__":
    main()
