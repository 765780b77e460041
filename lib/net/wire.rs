//! A line to a server: TCP, perhaps under TLS, with a limit on every wait.
//!
//! No wait is without a limit, and every wait for the other side, also for it to take what we say, ends at once when this
//! process is asked to end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::tls;
use crate::config::{Peer, Tls};
use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// So many time limits may a TLS handshake or a record take, however it drips.
const PIECES: u32 = 4;

/// A connected line. Reads and writes fail with [`io::ErrorKind::TimedOut`] after the peer's time limit.
pub struct Wire {
    line: Line,
    tls: Option<Box<ClientConnection>>,
    peer: Peer,
}

/// A line over this socket; with implicit TLS the handshake is done on return.
pub(super) fn set_up(socket: Socket, peer: &Peer) -> Result<Wire> {
    let failed = |why| Error::network(format!("cannot use the connection to {}", peer.server), why);
    socket.prepare().map_err(failed)?;
    let (limit, patience) = (peer.timeout, peer.timeout);
    let line = Line { socket, limit, patience, deadline: None, hold: false };
    let mut wire = Wire { line, tls: None, peer: peer.clone() };
    if peer.tls == Tls::Implicit {
        wire.start_tls()?;
    }
    Ok(wire)
}

impl Wire {
    /// Does the TLS handshake now (after a STARTTLS that was answered). What the server said before it is not to be
    /// believed any more; the caller must hold no bytes read ahead, or refuse them.
    pub fn start_tls(&mut self) -> Result<()> {
        let server = &self.peer.server;
        let doing = || format!("cannot start TLS with {server}");
        let name = ServerName::try_from(server.host.clone())
            .map_err(|why| Error::new(Kind::Config, doing(), why))?;
        let trust = tls::trust(&self.peer)?;
        let mut connection = ClientConnection::new(trust.config, name)
            .map_err(|why| Error::new(Kind::Internal, doing(), why))?;
        self.line.deadline = Instant::now().checked_add(self.peer.timeout.saturating_mul(PIECES));
        while connection.is_handshaking() {
            if let Err(why) = connection.complete_io(&mut self.line) {
                return Err(self.handshake_error(doing(), why, &trust.shown));
            }
        }
        self.line.deadline = None;
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    fn handshake_error(
        &self,
        doing: String,
        why: io::Error,
        shown: &std::sync::Mutex<Option<String>>,
    ) -> Error {
        let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(inner) = inner else { return Error::network(doing, why) };
        let rustls::Error::InvalidCertificate(wrong) = inner else {
            return Error::new(Kind::Protocol, doing, inner)
                .hint("perhaps this port does not speak TLS at once: try the other URL scheme");
        };
        let seen = shown.lock().ok().and_then(|shown| shown.clone()).unwrap_or_default();
        let why = match self.peer.tls_fingerprint {
            Some(_) => "its certificate is not the pinned one".to_string(),
            None => format!("its certificate is not trusted ({wrong})"),
        };
        Error::new(Kind::Protocol, doing, why).hint(format!(
            "its SHA-256 fingerprint is {seen}; if you know that to be right, use --tls-fingerprint, or --tls-ca with \
             the CA that signed it"
        ))
    }

    /// True under TLS.
    pub fn is_protected(&self) -> bool {
        self.tls.is_some()
    }

    /// Whom this line leads to.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Another limit for each wait to read; `None` goes back to the peer's.
    pub fn set_limit(&mut self, limit: Option<Duration>) {
        self.line.limit = limit.unwrap_or(self.peer.timeout);
    }

    /// All reads together end by then, however much or little drips in meanwhile; `None` takes it away again.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.line.deadline = deadline;
    }

    /// While held, reads and writes go on although we are asked to end: for an answer without which nobody knows what happened.
    pub fn hold(&mut self, yes: bool) {
        self.line.hold = yes;
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.line.read(buffer),
            Some(tls) => {
                // Records that hold nothing for us are no answer, however many come.
                let before = self.line.deadline;
                self.line.deadline =
                    before.or_else(|| Instant::now().checked_add(self.line.limit.saturating_mul(PIECES)));
                let read = rustls::Stream::new(tls.as_mut(), &mut self.line).read(buffer);
                self.line.deadline = before;
                match read {
                    // QUIRK: many servers close without close_notify; the protocols on top know their own ends.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                    done => done,
                }
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.line.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.line).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.line).flush(),
        }
    }
}

/// What a line goes over.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_nodelay(true),
            Socket::Unix(_) => Ok(()),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }

    /// What it takes at once; `None` where that is nothing.
    fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match rustix::net::send(self.as_fd(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }
}

/// The bare socket; waits with a limit and an ear for signals.
struct Line {
    socket: Socket,
    /// For each wait for input.
    limit: Duration,
    /// For each wait for the other side to take something.
    patience: Duration,
    deadline: Option<Instant>,
    hold: bool,
}

impl Line {
    /// Waits for input. A long wait ends early after a suspend: the line may be dead, and only a question can tell.
    fn wait(&self) -> io::Result<Woken> {
        let now = Instant::now();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Woken::Late);
        }
        let limit = left.map_or(self.limit, |left| left.min(self.limit));
        if self.hold {
            return stop::wait_through(self.socket.as_fd(), limit);
        }
        stop::wait_awake(&[self.socket.as_fd()], limit)
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let woken = self.wait()?;
        match woken {
            Woken::Ready => self.socket.read(buffer),
            Woken::Late => Err(io::ErrorKind::TimedOut.into()),
            Woken::Stopped => Err(io::Error::other("asked to end")),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(n) = self.socket.send(bytes)? {
                return Ok(n);
            }
            let left = end.saturating_duration_since(Instant::now());
            let woken = match self.hold {
                true => stop::wait_through_to_write(self.socket.as_fd(), left)?,
                false => stop::wait_to_write(self.socket.as_fd(), left)?,
            };
            match woken {
                Woken::Late if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
                Woken::Stopped => return Err(io::Error::other("asked to end")),
                // Or somebody called, which is not for this.
                Woken::Ready | Woken::Late => {}
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_nobody_takes_ends_with_the_limit_and_when_asked() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (limit, patience) = (Duration::from_secs(600), Duration::from_millis(20));
        let mut line = Line { socket: Socket::Unix(ours), limit, patience, deadline: None, hold: false };
        let fill = |line: &mut Line| line.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(fill(&mut line).kind(), io::ErrorKind::TimedOut);
        line.patience = limit;
        let task = stop::Task::new().unwrap();
        let other = task.clone();
        let asking = std::thread::spawn(move || other.stop());
        let why = stop::as_task(&task, || fill(&mut line));
        assert_eq!(why.to_string(), "asked to end");
        asking.join().unwrap();
        // What must be known is waited for all the same.
        (line.hold, line.patience) = (true, patience);
        let why = stop::as_task(&task, || fill(&mut line));
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
    }
}
