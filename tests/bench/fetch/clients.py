"""Clients to measure a fetcher against, on one mailbox: drain, status, pyfetch; and store, which needs no server.

  clients.py drain   HOST PORT USER PASS [CA]     asks for everything at once and drops the bytes
  clients.py status  HOST PORT USER PASS [CA]     login, EXAMINE, logout
  clients.py pyfetch HOST PORT USER PASS DIR [CA] imaplib, 50 bodies a command, one fsync a message
  clients.py store   MAILDIR DIR                  the same files written, synced in groups by eight threads, renamed

Prints the seconds it took, imports and the reading of store's input left out.
"""
import imaplib, os, socket, ssl, sys, threading, time


def dial(host, port, ca):
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if ca:
        sock = ssl.create_default_context(cafile=ca).wrap_socket(sock, server_hostname=host)
    return sock


def until(sock, mark):
    tail = b""
    buffer = bytearray(1 << 20)
    while True:
        n = sock.recv_into(buffer)
        if not n:
            raise SystemExit("the server closed the connection")
        tail = (tail + bytes(buffer[max(0, n - 200):n]))[-400:]
        if mark in tail:
            return


def talk(host, port, user, password, ca, commands):
    sock = dial(host, port, ca)
    until(sock, b"\r\n")
    for n, command in enumerate([f'LOGIN {user} "{password}"', "EXAMINE INBOX", *commands, "LOGOUT"]):
        sock.sendall(f"a{n} {command}\r\n".encode())
        until(sock, f"\r\na{n} OK".encode() if n else b"a0 OK")
    sock.close()


def drain(host, port, user, password, ca=None):
    talk(host, port, user, password, ca, ["UID FETCH 1:* (UID INTERNALDATE FLAGS BODY.PEEK[])"])


def status(host, port, user, password, ca=None):
    talk(host, port, user, password, ca, [])


def pyfetch(host, port, user, password, out, ca=None):
    for sub in ("tmp", "new", "cur"):
        os.makedirs(f"{out}/{sub}", exist_ok=True)
    if ca:
        imap = imaplib.IMAP4_SSL(host, int(port), ssl_context=ssl.create_default_context(cafile=ca))
    else:
        imap = imaplib.IMAP4(host, int(port))
    imap.login(user, password)
    imap.select("INBOX", readonly=True)
    uids = imap.uid("SEARCH", "ALL")[1][0].split()
    for start in range(0, len(uids), 50):
        data = imap.uid("FETCH", b",".join(uids[start:start + 50]), "(UID BODY.PEEK[])")[1]
        for n, body in enumerate(part[1] for part in data if isinstance(part, tuple)):
            name = f"{start + n}.py"
            with open(f"{out}/tmp/{name}", "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{out}/tmp/{name}", f"{out}/new/{name}")
    imap.logout()


def store(maildir, out):
    bodies = []
    for sub in ("new", "cur"):
        for entry in os.scandir(f"{maildir}/{sub}"):
            with open(entry.path, "rb") as file:
                bodies.append(file.read())
    os.makedirs(f"{out}/tmp")
    os.makedirs(f"{out}/new")
    directory = os.open(f"{out}/new", os.O_RDONLY)
    begun = time.monotonic()
    group, size = [], 0
    for n, body in enumerate(bodies):
        fd = os.open(f"{out}/tmp/{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, body)
        group.append((n, fd))
        size += len(body)
        if size >= 32 << 20 or len(group) == 384 or n == len(bodies) - 1:
            def sync(k):
                for _, fd in group[k::8]:
                    os.fsync(fd)
            threads = [threading.Thread(target=sync, args=(k,)) for k in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            for number, fd in group:
                os.close(fd)
                os.rename(f"{out}/tmp/{number}", f"{out}/new/{number}")
            os.fsync(directory)
            group, size = [], 0
    return time.monotonic() - begun


def main():
    what, *words = sys.argv[1:]
    begun = time.monotonic()
    took = {"drain": drain, "status": status, "pyfetch": pyfetch, "store": store}[what](*words)
    print(f"{took if took is not None else time.monotonic() - begun:.4f}")


main()
