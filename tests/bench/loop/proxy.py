"""A TCP proxy that notes when an IMAP server announces something: proxy.py PORT.

Prints its own port; then, for each chunk from the server that holds an untagged EXISTS while the client idles, the
moment (CLOCK_MONOTONIC, ns) at which the chunk came in, before it is passed on.
"""
import re, socket, sys, threading, time

EXISTS = re.compile(rb"(?:^|\n)\* \d+ EXISTS\r\n")


class Line:
    def __init__(self, client, port):
        self.client, self.server = client, socket.create_connection(("127.0.0.1", port))
        self.idle = False
        for sock in (self.client, self.server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for copy in (self.up, self.down):
            threading.Thread(target=copy, daemon=True).start()

    def up(self):
        while chunk := self.client.recv(1 << 16):
            last = chunk.rstrip().upper()
            self.idle = last.endswith(b" IDLE") or (self.idle and last != b"DONE")
            self.server.sendall(chunk)
        self.server.shutdown(socket.SHUT_WR)

    def down(self):
        while chunk := self.server.recv(1 << 20):
            now = time.monotonic_ns()
            if self.idle and EXISTS.search(chunk):
                print(now, flush=True)
            self.client.sendall(chunk)
        self.client.close()


def main():
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(door.getsockname()[1], flush=True)
    while True:
        client, _ = door.accept()
        Line(client, int(sys.argv[1]))


main()
