//! Accepts connections on the four ports, gives each a thread, and ends them all when asked.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::ServerConfig;

use super::account::Accounts;
use super::wire::{Waker, Wire};
use super::{Options, imap, smtp};
use crate::error::{Error, Kind, Result};

/// More connections than this at a time are turned away with a word.
const MOST_CONNECTIONS: usize = 100;
/// How long a stop waits for threads that are busy with the disk.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What every conversation shares.
pub struct House {
    /// Whom we know and their mailboxes.
    pub accounts: Accounts,
    /// For STARTTLS and the implicit ports.
    pub tls: Arc<ServerConfig>,
    /// Largest message taken, in bytes.
    pub max_size: u64,
}

/// The four ports as bound.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub smtp: u16,
    pub smtps: u16,
    pub imap: u16,
    pub imaps: u16,
}

/// The accepting thread and all it started; ends everything when dropped.
pub struct Server {
    /// Where it listens.
    pub ports: Ports,
    crowd: Arc<Crowd>,
    waker: Arc<Waker>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Speech {
    Smtp,
    Imap,
}

struct Door {
    listener: TcpListener,
    speech: Speech,
    implicit_tls: bool,
}

/// The open connections, so that they can be cut.
#[derive(Default)]
struct Crowd {
    open: Mutex<HashMap<u64, TcpStream>>,
    left: Condvar,
    closing: AtomicBool,
}

impl Server {
    /// Binds the four ports on 127.0.0.1 and starts to accept.
    pub fn start(options: &Options, accounts: Accounts, tls: Arc<ServerConfig>) -> Result<Server> {
        let failed = |why| Error::new(Kind::Io, "cannot start the server", why);
        let max_size = if options.max_size == 0 { 256 << 20 } else { options.max_size };
        let house = Arc::new(House { accounts, tls, max_size });
        let doors = vec![
            Door::open(options.smtp, Speech::Smtp, false)?,
            Door::open(options.smtps, Speech::Smtp, true)?,
            Door::open(options.imap, Speech::Imap, false)?,
            Door::open(options.imaps, Speech::Imap, true)?,
        ];
        let port = |k: usize| -> io::Result<u16> {
            Ok(doors.get(k).map(|door| door.listener.local_addr()).transpose()?.map_or(0, |a| a.port()))
        };
        let ports = (|| Ok(Ports { smtp: port(0)?, smtps: port(1)?, imap: port(2)?, imaps: port(3)? }))()
            .map_err(failed)?;
        let waker = Arc::new(Waker::new().map_err(failed)?);
        let crowd = Arc::new(Crowd::default());
        let acceptor = std::thread::Builder::new()
            .name("accept".to_string())
            .spawn({
                let (waker, crowd) = (Arc::clone(&waker), Arc::clone(&crowd));
                move || accept_all(&doors, &waker, &crowd, &house)
            })
            .map_err(failed)?;
        Ok(Server { ports, crowd, waker, acceptor: Some(acceptor) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crowd.closing.store(true, Ordering::SeqCst);
        self.waker.wake();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.crowd.close();
    }
}

impl Door {
    fn open(port: u16, speech: Speech, implicit_tls: bool) -> Result<Door> {
        let failed = |why| {
            Error::new(Kind::CannotCreate, format!("cannot listen on 127.0.0.1:{port}"), why)
                .hint("take another port, or 0 for any free one")
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        // A client may go away between poll and accept; accept must not wait for the next one then.
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Door { listener, speech, implicit_tls })
    }
}

impl Crowd {
    fn enter(&self, number: u64, sock: &TcpStream) -> io::Result<bool> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST_CONNECTIONS {
            return Ok(false);
        }
        open.insert(number, sock.try_clone()?);
        Ok(true)
    }

    fn leave(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.left.notify_all();
    }

    fn close(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for sock in open.values() {
            let _ = sock.shutdown(Shutdown::Both);
        }
        let _ = self
            .left
            .wait_timeout_while(open, STOP_LIMIT, |open| !open.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// Leaves the crowd also when the conversation panics.
struct Visit {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.crowd.leave(self.number);
    }
}

fn accept_all(doors: &[Door], waker: &Waker, crowd: &Arc<Crowd>, house: &Arc<House>) {
    let mut number = 0;
    while !crowd.closing.load(Ordering::SeqCst) {
        let bell = waker.handle();
        let mut fds: Vec<PollFd<'_>> = doors
            .iter()
            .map(|door| PollFd::from_borrowed_fd(door.listener.as_fd(), PollFlags::IN))
            .chain(std::iter::once(PollFd::new(&bell, PollFlags::IN)))
            .collect();
        if poll(&mut fds, None).is_err() {
            continue;
        }
        for (door, fd) in doors.iter().zip(&fds) {
            if fd.revents().is_empty() {
                continue;
            }
            match door.listener.accept() {
                Ok((sock, _)) => {
                    number += 1;
                    receive(door, sock, number, crowd, house);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                // Out of file handles: give the others a moment to end instead of spinning.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn receive(door: &Door, mut sock: TcpStream, number: u64, crowd: &Arc<Crowd>, house: &Arc<House>) {
    let _ = sock.set_nonblocking(false);
    if !crowd.enter(number, &sock).unwrap_or(false) {
        let words: &[u8] = match door.speech {
            Speech::Smtp => b"421 4.3.2 too many connections\r\n",
            Speech::Imap => b"* BYE too many connections\r\n",
        };
        if !door.implicit_tls {
            let _ = sock.write_all(words);
        }
        return;
    }
    let visit = Visit { crowd: Arc::clone(crowd), number };
    let (house, speech, implicit_tls) = (Arc::clone(house), door.speech, door.implicit_tls);
    // When no thread can be had, the closure is dropped: the connection closes and the visit ends.
    let _ = std::thread::Builder::new().name(format!("{speech:?} {number}")).spawn(move || {
        let _visit = visit;
        // How a connection ends is the client's affair; there is nobody to tell.
        let _ = converse(&house, sock, speech, implicit_tls);
    });
}

fn converse(house: &Arc<House>, sock: TcpStream, speech: Speech, implicit_tls: bool) -> io::Result<()> {
    let mut wire = Wire::new(sock)?;
    if implicit_tls {
        wire.start_tls(&house.tls)?;
    }
    let done = match speech {
        Speech::Smtp => smtp::serve(house, &mut wire),
        Speech::Imap => imap::serve(house, &mut wire),
    };
    wire.close();
    done
}
