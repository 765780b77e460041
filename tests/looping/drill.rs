//! What goes wrong in years: the loop recovers without help, or stands with a clear state.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use super::{Home, until};

/// A line to the server that can swallow everything.
struct Line {
    port: u16,
    dead: Arc<AtomicBool>,
}

impl Line {
    fn to(server: &str) -> Line {
        let target = server.split("//").nth(1).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dead = Arc::<AtomicBool>::default();
        let is_dead = dead.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())] {
                    let is_dead = is_dead.clone();
                    std::thread::spawn(move || pass(from.unwrap(), to.unwrap(), &is_dead));
                }
            }
        });
        Line { port, dead }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut was_dead = false;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // Once something was swallowed the connection is of no use any more.
        was_dead |= is_dead.load(Ordering::SeqCst);
        if !was_dead && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_black_hole_is_noticed_and_left() {
    let home = Home::new("print");
    let line = Line::to(&home.server.imap);
    let imap = home.server.imap.clone();
    home.edit(|text| {
        let text = text.replace(&imap, &format!("imap://127.0.0.1:{}", line.port));
        text.replace("timeout = \"20s\"", "timeout = \"1s\"").replace("every = \"5m\"", "every = \"1s\"")
    });
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    line.dead.store(true, Ordering::SeqCst);
    home.bench.deliver_pdf("two");
    until("status says so", || home.status() == 1 && home.says("homework"));
    line.dead.store(false, Ordering::SeqCst);
    assert!(run.line().ends_with("/in/two.pdf"));
    until("all is well", || home.status() == 0);
}

#[test]
fn a_printer_that_is_off_is_waited_for() {
    let home = Home::new("run");
    home.bench.write("count", "#!/bin/sh\nexit 75\n");
    home.bench.deliver_pdf("one");
    let run = home.run();
    until("it is to be tried again", || home.says("1 to be tried again"));
    assert_eq!(home.status(), 1);
    let script = "#!/bin/sh\nprintf '%s\\n' \"$1\" >> \"$(dirname \"$0\")/counted\"\n";
    home.bench.write("count", script);
    home.bench.cmd("mail-loop").args(["retry", "--is", "later"]).run().ok();
    run.signal(Signal::USR1);
    until("it is printed", || home.bench.counted() == ["one.pdf"]);
    until("all is well", || home.status() == 0);
}

#[test]
fn a_burst_is_handled_whole() {
    let home = Home::new("print");
    let mut run = home.run();
    until("it lives", || home.status() == 0);
    let many = 100;
    for n in 0..many {
        home.bench.deliver_pdf(&format!("n{n}"));
    }
    let mut lines: Vec<String> = (0..many).map(|_| run.line()).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), many);
    run.signal(Signal::TERM);
    assert_eq!(run.wait().lines().len(), many);
}

#[test]
fn a_password_that_was_changed_on_the_server_is_told_and_taken_when_it_is_right_again() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let (imap, smtp) = (port(&home.server.imap), port(&home.server.smtp));
    home.server.kill();
    let words =
        ["-C", "server", "--user", "me@by.example:changed", "--imap-port", &imap, "--smtp-port", &smtp];
    let mut again = home.bench.cmd("mail-sandbox").args(words).spawn();
    while !again.line().starts_with("CA=") {}
    home.bench.deliver_pdf("two");
    run.signal(Signal::USR1);
    // The only account of this loop: there is nothing left to do, and its end says so.
    let ran = run.wait();
    assert_eq!(ran.status, Some(77), "{}", ran.shown());
    assert_eq!(ran.err_text().matches("given up").count(), 1, "it is tried once: {}", ran.shown());
    assert_eq!(home.status(), 2);
    home.bench.write("password", "changed\n");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/two.pdf"));
    until("all is well", || home.status() == 0);
}
