"""Other fetchers that wait for mail, each set up for one Dovecot user. A peer is given a directory of its own and yields
(how to start it, the directory in which a message appears once it is delivered)."""
import os, shutil, subprocess, sys


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    return path


def maildir(out):
    for sub in ("tmp", "new", "cur"):
        os.makedirs(f"{out}/mail/{sub}")
    return f"{out}/mail"


def fetchmail(out, port, user, password):
    mail = maildir(out)
    mda = write(f"{out}/mda", f'#!/bin/sh\ncat > {mail}/tmp/$$ && sync {mail}/tmp/$$ && mv {mail}/tmp/$$ {mail}/new/$$\n', 0o700)
    rc = write(f"{out}/rc", f'poll 127.0.0.1 service {port} protocol imap auth password\n  user {user} password "{password}" sslproto "" idle keep mda "{mda}"\n')
    return ["fetchmail", "-f", rc, "--nodetach", "--pidfile", f"{out}/pid", "--idfile", f"{out}/ids"], f"{mail}/new"


def getmail(out, port, user, password):
    mail = maildir(out)
    rc = write(f"{out}/rc", (
        f"[retriever]\ntype=SimpleIMAPRetriever\nserver=127.0.0.1\nport={port}\nusername={user}\npassword={password}\n"
        f"[destination]\ntype=Maildir\npath={mail}/\n[options]\nread_all=false\ndelete=false\n"))
    # It delivers nothing as root.
    subprocess.run(["chown", "-R", "nobody", out], check=True)
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "getmail", "-g", out, "-r", rc, "--idle=INBOX"], f"{mail}/new"


def offlineimap(out, port, user, password):
    rc = write(f"{out}/rc", (
        f"[general]\naccounts=a\nmetadata={out}/meta\nui=quiet\nfsync=true\n"
        f"[Account a]\nlocalrepository=l\nremoterepository=r\nautorefresh=60\n"
        f"[Repository l]\ntype=Maildir\nlocalfolders={out}/mail\n"
        f"[Repository r]\ntype=IMAP\nremotehost=127.0.0.1\nremoteport={port}\nremoteuser={user}\nremotepass={password}\n"
        f"ssl=no\nstarttls=no\nidlefolders=['INBOX']\nholdconnectionopen=yes\nkeepalive=60\n"))
    return ["offlineimap", "-c", rc], f"{out}/mail/INBOX/new"


def mbsync(out, port, user, password):
    os.makedirs(f"{out}/mail")
    rc = write(f"{out}/rc", (
        f"FSync yes\n\nIMAPStore far\nHost 127.0.0.1\nPort {port}\nUser {user}\nPass {password}\nSSLType None\nAuthMechs LOGIN\n\n"
        f"MaildirStore near\nPath {out}/mail/\nInbox {out}/mail/INBOX\n\nChannel x\nFar :far:\nNear :near:\nSync Pull\nCreate Near\n"
        f"SyncState {out}/state\n"))
    return [sys.executable, __file__, str(port), user, password, "mbsync", "-q", "-c", rc, "x"], f"{out}/mail/INBOX/new"


def all_there():
    known = {"fetchmail": fetchmail, "getmail": getmail, "offlineimap": offlineimap, "mbsync": mbsync}
    return {name: make for name, make in known.items() if shutil.which(name)}


def idle(port, user, password, *command):
    """The usual IDLE script: one connection waits, the command is run at once and at each announcement."""
    import socket
    sock = socket.create_connection(("127.0.0.1", int(port)))
    file = sock.makefile("rb")
    file.readline()
    for n, line in enumerate((f'LOGIN {user} "{password}"', "EXAMINE INBOX", "IDLE")):
        sock.sendall(f"a{n} {line}\r\n".encode())
        while not (got := file.readline()).startswith((f"a{n} ".encode(), b"+ ")):
            pass
    subprocess.run(command)
    while got := file.readline():
        if b" EXISTS" in got:
            subprocess.run(command)


if __name__ == "__main__":
    idle(*sys.argv[1:])
