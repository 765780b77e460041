//! Lines that are cut at any octet, and kills in mid-stream: nothing lost, nothing doubled, little fetched twice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Post;

/// A proxy that cuts its first connection after so many octets to the client, and counts all of them.
pub(super) struct Knife {
    pub url: String,
    carried: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    /// Rings when the cut has come.
    pub cut: std::sync::mpsc::Receiver<()>,
}

impl Knife {
    /// Without `close` the line stays open after the cut and is silent.
    pub fn new(server: &str, after: u64, close: bool) -> Knife {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let (carried, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (carried.clone(), over.clone());
        let server = server.trim_start_matches("imap://").to_string();
        let (ring, cut) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let client = client.unwrap();
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let limit = if number == 0 { after } else { u64::MAX };
                let (server, count, ring) =
                    (TcpStream::connect(&server).unwrap(), count.clone(), ring.clone());
                let (up, down) =
                    ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
                std::thread::spawn(move || carry(up.0, up.1, u64::MAX, &AtomicU64::new(0)));
                std::thread::spawn(move || {
                    let (server, client) = down;
                    let ends = client.try_clone().unwrap();
                    let whole = carry(server, client, limit, &count);
                    if !whole {
                        ring.send(()).ok();
                    }
                    if whole || close {
                        ends.shutdown(Shutdown::Both).ok();
                    } else {
                        std::mem::forget(ends);
                    }
                });
            }
        });
        Knife { url, carried, over, cut }
    }
}

impl Drop for Knife {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("imap://"));
    }
}

/// True if the stream ended by itself before the limit.
fn carry(mut from: TcpStream, mut to: TcpStream, limit: u64, count: &AtomicU64) -> bool {
    let (mut left, mut buffer) = (limit, [0; 4096]);
    if limit == 0 {
        // What the server says is not even waited for.
        return false;
    }
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let n = (n as u64).min(left);
        count.fetch_add(n, Ordering::SeqCst);
        left -= n;
        if to.write_all(&buffer[..n as usize]).is_err() {
            return true;
        }
        if left == 0 {
            from.shutdown(Shutdown::Both).ok();
            return false;
        }
    }
    to.shutdown(Shutdown::Write).ok();
    true
}

fn body(n: usize) -> String {
    format!("{n} line\r\n").repeat(n * n % 97 * 10)
}

/// Forty messages of up to 8 KB, and how many octets an undisturbed fetch of them takes.
fn mail() -> (Post, u64) {
    let post = Post::new();
    for n in 0..40 {
        post.deliver(&format!("m{n:02}"), &body(n));
    }
    let knife = Knife::new(&post.server.imap, u64::MAX, true);
    post.fetch_from(&knife.url, "undisturbed").run().ok();
    let all = knife.carried.load(Ordering::SeqCst);
    assert!(all > 100_000, "{all} octets");
    (post, all)
}

/// Places all over the stream, the same in every run with the same MAILLOOP_SEED.
fn places(number: u64, all: u64) -> impl Iterator<Item = u64> {
    let seed = asked_for("MAILLOOP_SEED").unwrap_or(0).wrapping_mul(0xd134_2543_de82_ef95);
    let mixed = move |n: u64| (n ^ seed).wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    (0..number).map(move |n| 1 + mixed(n) % (all - 1))
}

/// As many as asked for by MAILLOOP_CUTS.
fn number(usual: u64) -> u64 {
    asked_for("MAILLOOP_CUTS").unwrap_or(usual)
}

fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn cut_anywhere_it_goes_on_with_what_is_missing() {
    let (post, all) = mail();
    let server = post.on_server();
    // Once more the login and the search, and the message that was under way.
    let most = all + 2_000 + 10_000;
    for place in places(number(60), all) {
        let knife = Knife::new(&post.server.imap, place, true);
        let maildir = format!("cut{place}");
        let first = post.fetch_from(&knife.url, &maildir).run();
        let mut told = first.lines().len();
        if first.status != Some(0) {
            // Cut before the download: that is for the caller to try again.
            assert_eq!(first.status, Some(75), "cut at {place}: {}", first.shown());
            told += post.fetch_from(&knife.url, &maildir).run().ok().lines().len();
        }
        assert_eq!((told, &post.digests(&maildir)), (server.len(), &server), "cut at {place}");
        let carried = knife.carried.load(Ordering::SeqCst);
        assert!(carried <= most, "cut at {place}: {carried} of {all} octets");
    }
}

#[test]
fn killed_anywhere_in_the_stream_it_ends_the_same() {
    let (post, all) = mail();
    let server = post.on_server();
    // By then a first group has come, and whatever else the server says.
    let group: u64 = (0..20).map(|n| body(n).len() as u64 + 300).sum::<u64>() + 1_000;
    assert!(group < all / 2, "{group} of {all} octets");
    let (mut told_before, mut whole) = (0, 0);
    for place in places(number(30), all) {
        let knife = Knife::new(&post.server.imap, place, false);
        let maildir = format!("killed{place}");
        let mut running = post.fetch_from(&knife.url, &maildir).args(["--timeout", "3s"]).spawn();
        knife.cut.recv_timeout(std::time::Duration::from_secs(20)).expect("the cut comes");
        if place > group {
            // While the line is silent the group becomes durable and is told; at the latest when the line is given up
            // and another one made, which then goes on with what is missing.
            running.line();
        }
        running.kill();
        let killed = running.wait();
        assert!(matches!((killed.signal, killed.status), (Some(9), _) | (_, Some(0))), "{}", killed.shown());
        post.fetch_from(&knife.url, &maildir).run().ok();
        assert_eq!(post.digests(&maildir), server, "killed at {place}");
        assert!(post.fetch(&maildir).run().ok().lines().is_empty(), "killed at {place}");
        // What was told is not fetched again; all of the rest fits into the groups that a kill costs.
        let size = |line: &String| post.bench.path(line).metadata().unwrap().len();
        let told: u64 = killed.lines().iter().map(size).sum();
        // What the server says around a message comes with it.
        let around = 150 * killed.lines().len() as u64;
        let lines = 1 + killed.err_text().matches("connecting again").count() as u64;
        let most = all + lines * (place + 2_000) + (lines - 1) * all - told + around;
        let carried = knife.carried.load(Ordering::SeqCst);
        whole += u64::from(lines == 1);
        assert!(carried <= most, "killed at {place}: {carried} octets, at most {most}");
        told_before += told;
    }
    assert!(whole * 2 > number(30), "only {whole} were killed on their first line");
    assert!(told_before > 0, "no kill came after a group was durable, so this tests too little");
}
