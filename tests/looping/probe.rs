//! A mail to itself through the whole loop.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use super::{Home, until};
use crate::bench::{base64_lines, pdf};

const PROBE: &str = "\n[loop.homework.probe]\nevery = \"1h\"\nlimit = \"200ms\"\n";

#[test]
fn a_probe_goes_round_and_leaves_nothing() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    let probe = &home.json()[0]["probe"];
    assert!(probe["p50"].as_u64() == probe["p99"].as_u64() && probe["p99"].is_u64(), "{probe}");
    // Somebody who asks for the same cannot have it: an older probe's name and header are no probe.
    run.signal(Signal::USR1);
    until("it is gone here", || {
        home.bench.files("home/Mail/school/new").is_empty() && home.bench.files("home/in").len() <= 2
    });
    until("and on the server", || {
        ["new", "cur"]
            .iter()
            .all(|place| home.bench.files(&format!("server/me@by.example/{place}")).is_empty())
    });
    assert!(!home.bench.path("home/in/mailloop-probe.pdf").exists());
    home.bench.deliver_pdf("one");
    until("the loop works as ever", || home.bench.counted() == ["one.pdf"]);
    assert_eq!(home.status(), 0);
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert!(ran.err.is_empty(), "{}", ran.shown());
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.bench.counted(), ["one.pdf"]);
}

#[test]
fn a_lost_probe_is_told() {
    let home = Home::new("print");
    // What is sent there never comes back.
    let other = home.bench.sandbox_in("elsewhere", &["me@by.example:secret"]);
    let smtp = home.server.smtp.clone();
    home.edit(|text| text.replace(&smtp, &other.smtp) + PROBE);
    let run = home.run();
    until("it is lost", || home.json()[0]["probe"]["lost"] == 1);
    until("and told", || home.status() == 1 && home.says("a probe has not come back"));
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn what_looks_like_a_probe_is_none() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    home.bench.deliver_pdf("mailloop-probe");
    until("it is acted on as any file", || home.bench.counted() == ["mailloop-probe.pdf"]);
    assert!(home.bench.path("home/in/mailloop-probe.pdf").exists());
    assert_eq!(home.json()[0]["probe"]["came"], 1);
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_probe_that_cannot_be_sent_waits_for_its_time() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.bench.cmd("mail-loop").arg("run").env("TMPDIR", home.bench.path("nowhere")).spawn();
    until("it is told", || home.says("cannot send a probe"));
    for name in ["one", "two", "three"] {
        home.bench.deliver_pdf(name);
        until("the loop works", || home.bench.counted().contains(&format!("{name}.pdf")));
    }
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert_eq!(ran.err_text().matches("cannot send a probe").count(), 1, "{}", ran.shown());
}

/// A letter of a stranger with these lines in its header, and a PDF.
fn forge(home: &Home, name: &str, head: &str) {
    let text = format!(
        "{head}From: stranger@elsewhere.example\r\nTo: me@by.example\r\nSubject: {name}\r\nContent-Type: application/pdf; \
         name=\"{name}.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        base64_lines(&pdf(name))
    );
    let aside = home.bench.write(&format!("server/me@by.example/tmp/{name}"), text);
    std::fs::create_dir_all(home.bench.path("server/me@by.example/new")).unwrap();
    std::fs::rename(aside, home.bench.path(&format!("server/me@by.example/new/{name}"))).unwrap();
}

#[test]
fn a_strangers_probe_is_none_and_that_it_causes_nothing_is_no_secret() {
    let home = Home::new("run");
    let other = home.bench.sandbox_in("elsewhere", &["me@by.example:secret"]);
    let smtp = home.server.smtp.clone();
    home.edit(|text| text.replace(&smtp, &other.smtp) + PROBE);
    let run = home.run();
    until("the true one is lost", || home.json()[0]["probe"]["lost"] == 1);
    let memory: serde_json::Value =
        serde_json::from_slice(&home.bench.read("home/.local/state/mailloop/probe-homework")).unwrap();
    let (sha256, out) = memory["out"].as_object().unwrap().iter().next().unwrap();
    // Even one who knows the token has not the file.
    forge(&home, "token", &format!("Mailloop-Probe: {}\r\n", out["token"].as_str().unwrap()));
    forge(&home, "mailloop-probe", &format!("Mailloop-Probe: {sha256}\r\nMailloop-Probe: x\r\n"));
    forge(&home, "plain", "");
    let skipped = || {
        let ran = home.bench.cmd("mail-loop").args(["history", "--json", "--is", "skipped"]).run().ok();
        ran.json()
    };
    until("all are told", || skipped().len() == 2 && home.bench.counted() == ["plain.pdf"]);
    for one in skipped() {
        let why = one["why"].as_str().unwrap();
        assert!(why.contains("one of ours, come back (mailloop-probe)"), "{one}");
    }
    let probe = &home.json()[0]["probe"];
    assert_eq!((&probe["came"], &probe["lost"]), (&0.into(), &1.into()), "{probe}");
    assert!(home.says("a probe has not come back"));
    assert!(home.bench.path("home/in/token.pdf").exists());
    run.signal(Signal::TERM);
    let said = run.wait();
    assert_eq!(said.err_text().matches("one of ours").count(), 2, "{}", said.shown());
    // Once: neither the next look nor another process tells it again.
    let again = home.bench.cmd("mail-loop").arg("once").run().ok();
    assert!(again.err.is_empty(), "{}", again.shown());
    assert_eq!((skipped().len(), home.bench.counted().len()), (2, 1));
}

/// The way to a server, which seems to know no UIDPLUS; gives its address, and what it is told.
fn without_uidplus(server: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    by_way(server, |bytes| String::from_utf8_lossy(&bytes).replace(" UIDPLUS", " XIDPLUS").into_bytes())
}

/// The way to a server; gives its address, and what it is told.
pub(super) fn listening(server: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    by_way(server, |bytes| bytes)
}

fn by_way(server: &str, change: fn(Vec<u8>) -> Vec<u8>) -> (String, Arc<Mutex<Vec<u8>>>) {
    let target = server.split("//").nth(1).unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("imap://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let told = Arc::<Mutex<Vec<u8>>>::default();
    let heard = told.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(&target) else { continue };
            let heard = heard.clone();
            pass(near.try_clone().unwrap(), far.try_clone().unwrap(), move |bytes| {
                heard.lock().unwrap().extend_from_slice(&bytes);
                bytes
            });
            pass(far, near, change);
        }
    });
    (address, told)
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut each: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&each(buffer[..read].to_vec())).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn where_single_messages_cannot_be_deleted_none_is_expunged() {
    let home = Home::new("print");
    let imap = home.server.imap.clone();
    let (address, told) = without_uidplus(&imap);
    home.edit(|text| text.replace(&imap, &address) + &PROBE.replace("200ms", "5m"));
    // Somebody marked this one and may think better of it.
    home.bench.deliver_pdf("one");
    let (new, cur) = ("server/me@by.example/new/one", "server/me@by.example/cur/one:2,T");
    std::fs::create_dir_all(home.bench.path("server/me@by.example/cur")).unwrap();
    std::fs::rename(home.bench.path(new), home.bench.path(cur)).unwrap();
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    let marked = || home.bench.files("server/me@by.example/cur");
    until("it is marked", || {
        let marked = marked();
        marked.len() == 2 && marked.iter().all(|name| name.to_string_lossy().ends_with('T'))
    });
    until("nothing is left to do", || {
        let text = home.bench.read("home/.local/state/mailloop/probe-homework");
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["gone"] == serde_json::json!([])
    });
    assert_eq!(home.status(), 0);
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert!(ran.err_text().contains("no UIDPLUS"), "{}", ran.shown());
    let told = String::from_utf8_lossy(&told.lock().unwrap()).into_owned();
    assert!(told.contains("STORE") && !told.contains("EXPUNGE") && !told.contains("CLOSE"), "{told}");
}

#[test]
fn what_could_not_be_deleted_on_the_server_is_deleted_by_the_next_run() {
    let home = Home::new("print");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    let on_server = || {
        let at = |place: &str| home.bench.files(&format!("server/me@by.example/{place}")).len();
        at("new") + at("cur")
    };
    until("it is gone there", || on_server() == 0);
    run.signal(Signal::TERM);
    run.wait();
    // As if that run had ended before it got there.
    home.bench.deliver_pdf("probe");
    home.bench.cmd("mail-fetch").arg("school").run().ok();
    let name = home.bench.files("home/Mail/school/new").remove(0).display().to_string();
    let (_, rest) = name.split_once(".V").unwrap();
    let (uidvalidity, rest) = rest.split_once('U').unwrap();
    let uid = rest.split('.').next().unwrap();
    let path = "home/.local/state/mailloop/probe-homework";
    let mut memory: serde_json::Value = serde_json::from_slice(&home.bench.read(path)).unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    memory["gone"] = serde_json::json!([["INBOX", number(uidvalidity), number(uid)]]);
    home.bench.write(path, memory.to_string());
    let run = home.run();
    until("it is gone there", || on_server() == 0);
    until("and that is known", || {
        let memory: serde_json::Value = serde_json::from_slice(&home.bench.read(path)).unwrap();
        memory["gone"] == serde_json::json!([])
    });
    run.signal(Signal::TERM);
    run.wait();
}
