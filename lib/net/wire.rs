//! A line to a server: TCP, perhaps under TLS, with a limit on every wait.
//!
//! No wait is without a limit, and every wait for the other side ends at once when this process is asked to end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::tls;
use crate::config::{Peer, Tls};
use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// So many time limits may a whole TLS handshake take, however it drips.
const HANDSHAKE: u32 = 4;

/// A connected line. Reads and writes fail with [`io::ErrorKind::TimedOut`] after the peer's time limit.
pub struct Wire {
    line: Line,
    tls: Option<Box<ClientConnection>>,
    peer: Peer,
}

/// A line over this socket; with implicit TLS the handshake is done on return.
pub(super) fn set_up(socket: Socket, peer: &Peer) -> Result<Wire> {
    let failed = |why| Error::network(format!("cannot use the connection to {}", peer.server), why);
    socket.prepare(peer.timeout).map_err(failed)?;
    let line = Line { socket, limit: peer.timeout, deadline: None, hold: false };
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
        self.line.deadline = Instant::now().checked_add(self.peer.timeout.saturating_mul(HANDSHAKE));
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

    /// While held, reads go on although we are asked to end: for an answer without which nobody knows what happened.
    pub fn hold(&mut self, yes: bool) {
        self.line.hold = yes;
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.line.read(buffer),
            Some(tls) => match rustls::Stream::new(tls.as_mut(), &mut self.line).read(buffer) {
                // QUIRK: many servers close without close_notify; the protocols on top know their own ends.
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                done => done,
            },
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
    fn prepare(&self, limit: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(limit))
            }
            Socket::Unix(socket) => socket.set_write_timeout(Some(limit)),
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

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }
}

/// The bare socket; waits with a limit and an ear for signals.
struct Line {
    socket: Socket,
    limit: Duration,
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
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
