//! TXT records from a resolver: UDP, and TCP for what is long (RFC 1035, RFC 6891, RFC 7766).
//!
//! A stub: it asks the resolvers that it is told of, follows the aliases in their answer and believes them. Every wait
//! has a limit and ends at once when this process is asked to end. Where no resolver answers, later questions fail at
//! once for a while, so that a thousand messages do not wait a thousand times.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::dial;
use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

mod packet;
use packet::Reply;

/// How long one resolver may take where nobody says otherwise.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How often all of them are asked.
const ROUNDS: usize = 2;
/// How long nobody is asked after nobody answered.
const SILENCE: Duration = Duration::from_secs(30);
/// So many answers are kept for the next question.
const MOST_KEPT: usize = 1000;

/// Whom to ask, and what they said; for one run, not for days: nothing that is kept grows old here.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    limit: Duration,
    kept: HashMap<String, Vec<Vec<u8>>>,
    /// Since when nobody answers, and the last reason.
    down: Option<(Instant, String)>,
}

impl Resolver {
    /// Asks these, in turn; each may take so long for an answer.
    pub fn new(servers: Vec<SocketAddr>, limit: Duration) -> Resolver {
        Resolver { servers, limit, kept: HashMap::new(), down: None }
    }

    /// The TXT records under a name, each with its strings put together; none where the name has none.
    ///
    /// [`Kind::Temporary`] where nobody knows now; [`Kind::Data`] for what is no name.
    pub fn txt(&mut self, name: &str) -> Result<Vec<Vec<u8>>> {
        let doing = || format!("cannot look up {name}");
        if let Some(known) = self.kept.get(name) {
            return Ok(known.clone());
        }
        if let Some((since, why)) = &self.down {
            if since.elapsed() < SILENCE {
                return Err(Error::new(Kind::Temporary, doing(), why));
            }
            self.down = None;
        }
        let query = packet::query(name, random()?)
            .ok_or_else(|| Error::new(Kind::Data, doing(), "it is no domain name"))?;
        match self.ask_all(&query) {
            Ok(records) => {
                if self.kept.len() >= MOST_KEPT {
                    self.kept.clear();
                }
                self.kept.insert(name.to_string(), records.clone());
                Ok(records)
            }
            Err(Silent { why, is_anybody_there }) => {
                if !is_anybody_there {
                    self.down = Some((Instant::now(), why.clone()));
                }
                Err(Error::new(Kind::Temporary, doing(), why))
            }
        }
    }

    fn ask_all(&self, query: &[u8]) -> std::result::Result<Vec<Vec<u8>>, Silent> {
        let mut silent = Silent { why: "there is no resolver".into(), is_anybody_there: false };
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match self.ask(*server, query) {
                    Ok(Reply::Records(records)) => return Ok(records),
                    Ok(Reply::Failed(code)) => {
                        silent.is_anybody_there = true;
                        silent.why = format!("{server} answered with failure {code}");
                    }
                    Ok(Reply::Cut) => silent.why = format!("{server} cuts its answer short"),
                    Err(why) => silent.why = format!("{server}: {}", said(&why)),
                }
                if stop::requested() {
                    return Err(silent);
                }
            }
        }
        Err(silent)
    }

    fn ask(&self, server: SocketAddr, query: &[u8]) -> io::Result<Reply> {
        match self.over_udp(server, query)? {
            Reply::Cut => self.over_tcp(server, query),
            reply => Ok(reply),
        }
    }

    fn over_udp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Reply> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A port by chance and a connected socket: others cannot answer in its stead (RFC 5452).
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        socket.send(query)?;
        let (end, mut answer) = (Instant::now() + self.limit, vec![0; 4096]);
        loop {
            wait(&socket, end)?;
            match socket.recv(&mut answer) {
                Ok(length) => {
                    // What does not belong to the question may be a forgery; the answer may still come.
                    if let Some(reply) = packet::read(&answer[..length], query) {
                        return Ok(reply);
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
    }

    fn over_tcp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Reply> {
        let end = Instant::now() + self.limit;
        let limit = self.limit;
        let mut socket = dial::aside(limit, move || TcpStream::connect_timeout(&server, limit))?;
        socket.set_write_timeout(Some(self.limit))?;
        let mut framed = u16::try_from(query.len()).unwrap_or_default().to_be_bytes().to_vec();
        framed.extend_from_slice(query);
        socket.write_all(&framed)?;
        socket.set_nonblocking(true)?;
        let mut length = [0; 2];
        read_whole(&mut socket, &mut length, end)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        read_whole(&mut socket, &mut answer, end)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "its answer belongs to another question");
        packet::read(&answer, query).ok_or_else(wrong)
    }
}

/// Nobody gave an answer.
struct Silent {
    why: String,
    /// Somebody said that they cannot; other names may do better.
    is_anybody_there: bool,
}

/// The resolvers of the system, `nameserver` lines in this file (resolv.conf(5)); the local host where it names none.
pub fn system(file: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    let mut servers: Vec<SocketAddr> = servers.take(3).map(|address| (address, 53).into()).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

fn random() -> Result<u16> {
    let mut bytes = [0; 2];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::plain(Kind::Io, "the system gives no random numbers"))?;
    Ok(u16::from_be_bytes(bytes))
}

fn wait(socket: &impl AsFd, end: Instant) -> io::Result<()> {
    match stop::wait(&[socket.as_fd()], end.saturating_duration_since(Instant::now()))? {
        Woken::Ready => Ok(()),
        Woken::Late => Err(io::ErrorKind::TimedOut.into()),
        Woken::Stopped => Err(io::Error::new(io::ErrorKind::Interrupted, "asked to end")),
    }
}

fn read_whole(socket: &mut TcpStream, mut into: &mut [u8], end: Instant) -> io::Result<()> {
    while !into.is_empty() {
        wait(socket, end)?;
        match socket.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => into = &mut into[read..],
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

fn said(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer within the time limit".into(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        _ => why.to_string(),
    }
}
