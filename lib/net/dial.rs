//! Reaching a server: its addresses are looked up, and tried in turn.
//!
//! The system's look-up knows no time limit, and a connect under way no signal. Both are done aside: what waits for them
//! has a limit and ends at once when this process is asked to end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::wire::{Socket, Wire, set_up};
use crate::config::{Peer, Server};
use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// Connects; with implicit TLS the handshake is done on return and the server is who it should be.
///
/// [`Kind::Temporary`] where it cannot be reached, [`Kind::Protocol`] where its certificate is not trusted.
pub fn dial(peer: &Peer) -> Result<Wire> {
    let doing = || format!("cannot connect to {}", peer.server);
    let limit = peer.timeout;
    if let Some(path) = peer.server.path().map(ToOwned::to_owned) {
        // A unix socket connects at once or not at all, but for a full backlog.
        let socket = aside(limit, move || UnixStream::connect(path));
        return set_up(Socket::Unix(socket.map_err(|why| Error::network(doing(), why))?), peer);
    }
    let mut trouble = None;
    for address in look_up(&peer.server, limit)? {
        match aside(limit, move || TcpStream::connect_timeout(&address, limit)) {
            Ok(socket) => return set_up(Socket::Tcp(socket), peer),
            Err(why) if stop::requested() => return Err(Error::network(doing(), why)),
            Err(why) => trouble = Some(why),
        }
    }
    Err(match trouble {
        Some(why) => Error::network(doing(), why).hint("check that the server runs and the port is right"),
        None => Error::new(Kind::Temporary, doing(), "its name has no address"),
    })
}

fn look_up(server: &Server, limit: Duration) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = server.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, server.port)]);
    }
    let (host, port) = (server.host.clone(), server.port);
    let found = aside(limit, move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let doing = || format!("cannot look up {}", server.host);
    found.map_err(|why| match why.kind() {
        _ if stop::requested() => Error::network(doing(), why),
        io::ErrorKind::TimedOut => Error::network(doing(), why),
        _ => Error::new(Kind::Temporary, doing(), why).hint("check the name and the network"),
    })
}

/// Does in a thread of its own what no signal ends. Where it is not waited for any longer, what comes of it is dropped.
pub(super) fn aside<T: Send + 'static>(
    limit: Duration,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (working, watched) = UnixStream::pair()?;
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("aside".into()).spawn(move || {
        let _ = tell.send(act());
        // Closed only now: who sees it finds what was told.
        drop(working);
    })?;
    let end = Instant::now().checked_add(limit);
    loop {
        let left = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
        match stop::wait(&[watched.as_fd()], left)? {
            Woken::Ready => {
                return told.try_recv().unwrap_or_else(|_| Err(io::Error::other("a fault of ours")));
            }
            Woken::Stopped => return Err(io::Error::other("asked to end")),
            Woken::Late if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
            // Somebody calls: not for this.
            Woken::Late => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::{Task, as_task, open_to_calls};

    /// Something that never ends by itself, and what ends it.
    fn endless() -> (mpsc::Sender<()>, impl FnOnce() -> io::Result<u8> + Send + 'static) {
        let (end, ended) = mpsc::channel::<()>();
        (end, move || Ok(ended.recv().map_or(1, |()| 2)))
    }

    #[test]
    fn what_takes_for_ever_ends_with_the_limit_and_when_asked() {
        let (_end, act) = endless();
        assert_eq!(aside(Duration::from_millis(20), act).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let task = Task::new().unwrap();
        let (_end, act) = endless();
        let (begun, begins) = mpsc::channel();
        let other = task.clone();
        let asking = std::thread::spawn(move || {
            begins.recv().unwrap();
            other.stop();
        });
        let ended = as_task(&task, || {
            aside(Duration::from_secs(600), move || {
                begun.send(()).unwrap();
                act()
            })
        });
        assert_eq!(ended.unwrap_err().to_string(), "asked to end");
        asking.join().unwrap();
    }

    #[test]
    fn a_call_does_not_end_it_and_its_end_does() {
        let task = Task::new().unwrap();
        task.call();
        let (end, act) = endless();
        end.send(()).unwrap();
        let done = as_task(&task, || open_to_calls(|| aside(Duration::from_secs(600), act)));
        assert_eq!(done.unwrap(), 2);
        let panics = || -> io::Result<u8> { panic!("on purpose") };
        assert_eq!(aside(Duration::from_secs(600), panics).unwrap_err().to_string(), "a fault of ours");
    }
}
