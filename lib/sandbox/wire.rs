//! One connection, plain or TLS: reads lines and exact amounts, buffers what is written, waits for input or a wake.
//!
//! Nothing is read past what is asked for except into one bounded buffer, which STARTTLS throws away.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection};

/// A client that says nothing for so long is cut off (RFC 3501 section 5.4 wants 30 minutes at least).
pub const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A client that takes nothing for so long is cut off.
const WRITE_LIMIT: Duration = Duration::from_secs(5 * 60);
const CHUNK: usize = 64 * 1024;

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Input can be read, or the client is gone.
    Input,
    /// Somebody called [`Waker::wake`].
    Woken,
    /// Neither in time.
    Neither,
}

/// A line, or why there is none.
#[derive(Debug)]
pub enum Line {
    /// Without its line end.
    Whole(Vec<u8>),
    /// It was longer than allowed; it has been read to its end and thrown away.
    TooLong,
    /// The client closed the connection.
    End,
}

/// One connection.
pub struct Wire {
    sock: TcpStream,
    tls: Option<Box<ServerConnection>>,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
}

impl Wire {
    /// Takes over an accepted connection, still plain.
    pub fn new(sock: TcpStream) -> io::Result<Wire> {
        sock.set_nodelay(true)?;
        sock.set_read_timeout(Some(IDLE_LIMIT))?;
        sock.set_write_timeout(Some(WRITE_LIMIT))?;
        Ok(Wire { sock, tls: None, input: Vec::new(), taken: 0, output: Vec::with_capacity(CHUNK) })
    }

    /// Goes over to TLS. What the client sent before the handshake is thrown away, so that nothing which somebody
    /// slipped into the plain stream counts as said under TLS (RFC 3207 section 4.2).
    pub fn start_tls(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        self.input.clear();
        self.taken = 0;
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(why) = tls.complete_io(&mut self.sock) {
                let _ = tls.write_tls(&mut self.sock);
                return Err(why);
            }
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// True under TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What has been read and not taken yet.
    pub fn buffered(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or(&[])
    }

    /// Takes `n` of the buffered bytes away.
    pub fn take(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.input.len());
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Sends what was written, then waits for more input; 0 at the end.
    pub fn fill(&mut self) -> io::Result<usize> {
        self.flush()?;
        loop {
            if let Some(n) = self.pump()? {
                return Ok(n);
            }
        }
    }

    /// One read: `None` if TLS had only its own business to do.
    fn pump(&mut self) -> io::Result<Option<usize>> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let start = self.input.len();
        self.input.resize(start + CHUNK, 0);
        let room = self.input.get_mut(start..).unwrap_or(&mut []);
        let got = match &mut self.tls {
            None => self.sock.read(room).map(Some),
            Some(tls) => pump_tls(tls, &mut self.sock, room),
        };
        self.input.truncate(start + got.as_ref().ok().copied().flatten().unwrap_or(0));
        got
    }

    /// Reads one line of at most `limit` bytes; a bare LF ends it too.
    pub fn line(&mut self, limit: usize) -> io::Result<Line> {
        let mut seen = 0;
        let mut too_long = false;
        loop {
            let at = memchr::memchr(b'\n', self.buffered().get(seen..).unwrap_or(&[])).map(|at| at + seen);
            if let Some(at) = at {
                let line = self.buffered().get(..at).unwrap_or(&[]);
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.take(at + 1);
                return Ok(if too_long || line.len() > limit { Line::TooLong } else { Line::Whole(line) });
            }
            seen = self.buffered().len();
            if too_long || seen > limit {
                too_long = true;
                self.take(seen);
                seen = 0;
            }
            if self.fill()? == 0 {
                return Ok(Line::End);
            }
        }
    }

    /// Reads exactly `n` bytes and hands them on piece by piece; all are read even if `to` fails.
    pub fn exactly(
        &mut self,
        n: u64,
        mut to: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<io::Result<()>> {
        let mut left = n;
        let mut done = Ok(());
        while left > 0 {
            if self.buffered().is_empty() && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let piece = self.buffered();
            let piece = piece.get(..left.min(piece.len() as u64) as usize).unwrap_or(piece);
            if done.is_ok() {
                done = to(piece);
            }
            let len = piece.len();
            left -= len as u64;
            self.take(len);
        }
        Ok(done)
    }

    /// Waits until there is input, somebody wakes us, or the time is over. Output is sent first.
    pub fn wait(&mut self, waker: &Waker, limit: Duration) -> io::Result<Ready> {
        self.flush()?;
        if !self.buffered().is_empty() {
            return Ok(Ready::Input);
        }
        if let Some(tls) = &mut self.tls {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 && self.pump()?.is_some() {
                return Ok(Ready::Input);
            }
        }
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut fds = [
            PollFd::from_borrowed_fd(self.sock.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(waker.theirs.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::Neither),
            Err(why) => return Err(why.into()),
            Ok(_) => {}
        }
        if !fds[0].revents().is_empty() {
            // NOTE: under TLS the bytes may be a key update only; then there is nothing for the caller yet.
            return Ok(if self.pump()?.is_some() { Ready::Input } else { Ready::Neither });
        }
        if !fds[1].revents().is_empty() {
            waker.calm();
            return Ok(Ready::Woken);
        }
        Ok(Ready::Neither)
    }

    /// Says goodbye to TLS and closes.
    pub fn close(&mut self) {
        let _ = self.flush();
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.sock);
        }
        let _ = self.sock.shutdown(Shutdown::Write);
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.output.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        match bytes.len() {
            n if n >= CHUNK => send(&mut self.sock, &mut self.tls, bytes)?,
            _ => self.output.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            let sent = send(&mut self.sock, &mut self.tls, &self.output);
            self.output.clear();
            sent?;
        }
        Ok(())
    }
}

fn send(sock: &mut TcpStream, tls: &mut Option<Box<ServerConnection>>, bytes: &[u8]) -> io::Result<()> {
    match tls {
        None => sock.write_all(bytes),
        Some(tls) => {
            let mut stream = rustls::Stream::new(&mut **tls, sock);
            stream.write_all(bytes)?;
            stream.flush()
        }
    }
}

fn pump_tls(tls: &mut ServerConnection, sock: &mut TcpStream, room: &mut [u8]) -> io::Result<Option<usize>> {
    match tls.reader().read(room) {
        Ok(n) => return Ok(Some(n)),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
        Err(why) => return Err(why),
    }
    if tls.read_tls(sock)? == 0 {
        return Ok(Some(0));
    }
    if let Err(why) = tls.process_new_packets() {
        let _ = tls.write_tls(sock);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    while tls.wants_write() {
        tls.write_tls(sock)?;
    }
    match tls.reader().read(room) {
        Ok(n) => Ok(Some(n)),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(why) => Err(why),
    }
}

/// Ends another thread's [`Wire::wait`]; many wakes before the waiter looks count as one.
#[derive(Debug)]
pub struct Waker {
    ours: UnixStream,
    theirs: UnixStream,
    rung: AtomicBool,
}

impl Waker {
    /// A waker that nobody has rung yet.
    pub fn new() -> io::Result<Waker> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok(Waker { ours, theirs, rung: AtomicBool::new(false) })
    }

    /// Ends the wait, or the next one.
    pub fn wake(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // One byte always fits: the flag keeps a second one away until this one was read.
            let _ = (&self.ours).write(&[1]);
        }
    }

    /// Reads the ring away. To be called only when one is there.
    pub fn calm(&self) {
        let _ = (&self.theirs).read(&mut [0]);
        self.rung.store(false, Ordering::SeqCst);
    }

    /// For a poll of one's own.
    pub fn handle(&self) -> impl AsFd + '_ {
        self.theirs.as_fd()
    }
}
