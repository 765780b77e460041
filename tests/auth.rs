//! Who sent it: `authenticated = true` and `mail-act --auth` through the binary, with keys from a name server of our own.
//! The forgery set of the project stands here: each must cause nothing, beside a genuine message that does.

mod signer;
mod zone;

use std::time::Duration;

use mailloop::net::dns::{Resolver, system};
use serde_json::json;
use signer::{Signer, signer};
use zone::{Said, Zone};

use crate::bench::{Bench, Cmd, base64_lines, pdf};

/// A bench with the rule, its own zone, and the key of by.example and evil.example in it.
fn bench() -> (Bench, Zone) {
    let (bench, zone) = (Bench::new(), Zone::serve());
    bench.write("counter", "#!/bin/sh\necho \"$1\" >>count\n");
    std::fs::set_permissions(bench.path("counter"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    for by in [signer("by.example"), signer("evil.example"), signer("xn--b-eia.example")] {
        zone.set(&by.name(), Said::Txt(vec![by.record()]));
    }
    configure(&bench, &zone, "trusted = ['mx.by.example']");
    for dir in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(bench.path("Mail").join(dir)).unwrap();
    }
    (bench, zone)
}

fn configure(bench: &Bench, zone: &Zone, auth: &str) {
    let text = format!(
        "[auth]\nresolver = '{}'\ntimeout = '300ms'\n{auth}\n[[rule]]\nname = 'print'\ntype = 'application/pdf'\n\
         from = ['*@by.example']\nauthenticated = true\nrun = ['./counter', '{{name}}']\n",
        zone.address
    );
    bench.write("config.toml", text);
}

/// A message with a PDF called `name`.
fn message(from: &str, name: &str) -> String {
    format!(
        "From: {from}\r\nTo: me@by.example\r\nSubject: {name}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\
         MIME-Version: 1.0\r\nContent-Type: application/pdf; name=\"{name}.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}",
        base64_lines(&pdf(name))
    )
}

fn deliver(bench: &Bench, name: &str, message: &str) {
    bench.write(&format!("Mail/new/{name}"), message);
}

/// Dissects what lies there and acts on it.
fn act(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd("mail-dissect").args(["--pending", "Mail", "-C", "in"]).run().ok();
    bench.cmd("mail-act").args(["-c", "config.toml", "--pending", "in"]).args(words)
}

fn acted(bench: &Bench) -> Vec<String> {
    let text = std::fs::read_to_string(bench.path("count")).unwrap_or_default();
    let mut names: Vec<String> = text.lines().map(|name| name.replace(".pdf", "")).collect();
    names.sort();
    names
}

const OURS: &str = "Authentication-Results: mx.by.example; dmarc=pass header.from=by.example\r\n";

/// What must never act, each with its name.
fn forgeries() -> Vec<(&'static str, String)> {
    let (by, evil) = (signer("by.example"), signer("evil.example"));
    let prof = "Prof <prof@by.example>";
    let signed = |name: &str, by: &Signer| by.sign(&message(prof, name));
    let others = |name| message("x@evil.example", name);
    let theirs = "Authentication-Results: mx.by.example; dkim=fail header.d=by.example; dmarc=fail\r\n";
    vec![
        ("forged", message(prof, "forged")),
        (
            "forged-results",
            format!("Received: from x by mx.other.example\r\n{OURS}{}", message(prof, "forged-results")),
        ),
        (
            "results-on-top",
            format!(
                "Authentication-Results: mx.evil.example; dmarc=pass header.from=by.example\r\n{}",
                message(prof, "results-on-top")
            ),
        ),
        (
            "results-below",
            format!("{theirs}Received: from x by mx.by.example\r\n{OURS}{}", message(prof, "results-below")),
        ),
        (
            "results-of-other",
            format!("{}{}", OURS.replace("from=by", "from=evil"), message(prof, "results-of-other")),
        ),
        ("own-domain", signed("own-domain", &evil)),
        ("own-domain-twice", evil.sign(&signed("own-domain-twice", &Signer { seed: 9, ..by.clone() }))),
        ("two-from", by.sign(&message(&format!("{prof}\r\nFrom: x@evil.example"), "two-from"))),
        ("two-from-above", format!("From: boss@by.example\r\n{}", signed("two-from-above", &by))),
        ("two-addresses", by.sign(&message("prof@by.example, boss@by.example", "two-addresses"))),
        ("display-name", evil.sign(&message("\"prof@by.example\" <x@evil.example>", "display-name"))),
        (
            "display-name-encoded",
            by.sign(&message("=?utf-8?q?boss=40by.example?= <prof@by.example>", "display-name-encoded")),
        ),
        ("comment", evil.sign(&message("x@evil.example (prof@by.example)", "comment"))),
        ("route", by.sign(&message("<@evil.example:prof@by.example>", "route"))),
        ("group", by.sign(&message("prof: prof@by.example;", "group"))),
        ("look-alike", evil.sign(&message("prof@b\u{443}.example", "look-alike"))),
        ("look-alike-local", by.sign(&message("pr\u{43e}f@by.example", "look-alike-local"))),
        (
            "look-alike-encoded",
            signer("xn--b-eia.example").sign(&message("prof@xn--b-eia.example", "look-alike-encoded")),
        ),
        ("expired", signed("expired", &Signer { more: "x=1700000000; ".into(), ..by.clone() })),
        ("future", signed("future", &Signer { more: "t=9000000000; ".into(), ..by.clone() })),
        ("truncated", signed("truncated", &Signer { length: Some(20), ..by.clone() }) + "more\r\n"),
        ("changed-body", signed("changed-body", &by).replacen("JVBER", "JVBEr", 1)),
        ("changed-head", signed("changed-head", &by).replace("prof@", "boss@")),
        ("without-from", signed("without-from", &Signer { covered: "To:Subject", ..by.clone() })),
        ("sha-1", signed("sha-1", &by).replace("ed25519-sha256", "rsa-sha1")),
        ("no-key", signed("no-key", &Signer { selector: "gone".into(), ..by.clone() })),
        (
            "within",
            format!(
                "{}From: x@evil.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n{}",
                "",
                signed("within", &by)
            ),
        ),
        ("plain-stranger", evil.sign(&others("plain-stranger"))),
    ]
}

fn genuine() -> Vec<(&'static str, String)> {
    let by = signer("by.example");
    let prof = "Prof <prof@by.example>";
    vec![
        ("genuine", by.sign(&message(prof, "genuine"))),
        // As other programs store mail, and as relays fold it.
        ("genuine-lf", by.sign(&message(prof, "genuine-lf")).replace("\r\n", "\n")),
        (
            "genuine-folded",
            by.sign(&message(prof, "genuine-folded")).replace("From: Prof ", "From:\r\n Prof\t"),
        ),
        ("genuine-results", format!("{OURS}{}", message(prof, "genuine-results"))),
        ("genuine-sub", by.sign(&message("a@cs.by.example", "genuine-sub"))),
    ]
}

#[test]
fn no_forgery_acts_and_the_genuine_do() {
    let (bench, zone) = bench();
    let (bad, good) = (forgeries(), genuine());
    for (name, message) in bad.iter().chain(&good) {
        deliver(&bench, name, message);
    }
    let ran = act(&bench, &["--run"]).run().ok();
    // `*@by.example` does not mean its parts; the others that are genuine acted, each once.
    let expected: Vec<&str> =
        good.iter().map(|(name, _)| *name).filter(|name| *name != "genuine-sub").collect();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(acted(&bench), expected, "{}", ran.shown());
    // The same verdict from the message alone, whatever the rule's `from` lets in.
    for (name, _) in &bad {
        let verdict = bench
            .cmd("mail-act")
            .args(["-c", "config.toml", "--json", "--auth"])
            .arg(format!("Mail/new/{name}"))
            .run();
        let record = &verdict.json()[0];
        if ["look-alike-encoded", "plain-stranger"].contains(name) {
            // They are who they say; they do not say that they are by.example.
            assert_eq!((verdict.status, &record["state"]), (Some(0), &json!("proven")), "{name}");
        } else {
            assert_eq!(
                (verdict.status, &record["state"]),
                (Some(77), &json!("unproven")),
                "{name}: {record}"
            );
        }
    }
    // Where a rule fits but for its sender, somebody is told, once.
    assert!(ran.err_text().contains("not by rule print: its sender is not proven"), "{}", ran.shown());
    let asked = zone.asked().len();
    let again = act(&bench, &["--run"]).run().ok();
    assert!(!again.err_text().contains("not proven"), "{}", again.shown());
    assert_eq!((acted(&bench).len(), zone.asked().len()), (expected.len(), asked), "nothing is asked twice");
}

#[test]
fn what_dns_cannot_tell_waits_and_is_tried_again() {
    let (bench, zone) = bench();
    let by = signer("by.example");
    deliver(&bench, "one", &by.sign(&message("prof@by.example", "one")));
    deliver(&bench, "two", &by.sign(&message("prof@by.example", "two")));
    // The rule after it must not have what the first may still want.
    let rules = String::from_utf8(bench.read("config.toml")).unwrap();
    bench.write("config.toml", format!("{rules}[[rule]]\nname = 'rest'\nrun = ['./counter', 'rest']\n"));
    for said in [Said::Failure, Said::Silence] {
        zone.set(&by.name(), said);
        let ran = act(&bench, &["--run", "--json"]).run().fails(75);
        let states: Vec<_> = ran.json().iter().map(|record| record["state"].clone()).collect();
        assert_eq!(states, [json!("later"), json!("later")], "{}", ran.shown());
        assert!(ran.err_text().contains("2 files wait"), "{}", ran.shown());
        let said = act(&bench, &["--explain"]).run().ok().out_text();
        assert!(said.contains("rule print waits until its sender can be told"), "{said}");
        let verdict = bench
            .cmd("mail-act")
            .args(["-c", "config.toml", "--auth", "-"])
            .stdin(bench.read("Mail/new/one"));
        verdict.run().fails(75);
    }
    assert!(acted(&bench).is_empty());
    zone.set(&by.name(), Said::Txt(vec![by.record()]));
    act(&bench, &["--run"]).run().ok();
    assert_eq!(acted(&bench), ["one", "two"]);
}

#[test]
fn a_proof_outlives_the_key_and_not_the_trust() {
    let (bench, zone) = bench();
    let by = signer("by.example");
    deliver(&bench, "one", &by.sign(&message("prof@by.example", "one")));
    // Held first: the proof is made, the deed is not done.
    let rules = String::from_utf8(bench.read("config.toml")).unwrap();
    bench.write("config.toml", format!("{rules}max_size = 1\n"));
    act(&bench, &["--run"]).run().fails(69);
    zone.forget(&by.name());
    bench.write("config.toml", &rules);
    act(&bench, &["--run", "--again"]).run().ok();
    assert_eq!(acted(&bench), ["one"]);
    // Another configuration asks anew, and there is no key any more.
    configure(&bench, &zone, "trusted = ['mx.other.example']");
    bench.cmd("mail-act").args(["-c", "config.toml", "--run", "--again", "in/one.pdf"]).run().ok();
    assert_eq!(acted(&bench), ["one"]);
    configure(&bench, &zone, "trusted = ['mx.by.example']");
    bench.cmd("mail-act").args(["-c", "config.toml", "--run", "--again", "in/one.pdf"]).run().ok();
    assert_eq!(acted(&bench), ["one", "one"]);
    // A message that was changed has no proof, whatever is kept of it.
    let text = String::from_utf8(bench.read("Mail/new/one")).unwrap();
    deliver(&bench, "one", &text.replace("Subject: one", "Subject: two"));
    bench.cmd("mail-act").args(["-c", "config.toml", "--run", "--again", "in/one.pdf"]).run();
    assert_eq!(acted(&bench), ["one", "one"]);
}

#[test]
fn the_verdict_is_shown() {
    let (bench, _zone) = bench();
    let by = Signer { rsa: false, ..signer("by.example") };
    bench.write("good.eml", by.sign(&message("P <prof@by.example>", "a")));
    bench.write("bad.eml", message("P <prof@by.example>", "a"));
    let auth = |words: &[&str]| bench.cmd("mail-act").args(["-c", "config.toml", "--auth"]).args(words);
    let ran = auth(&["good.eml"]).run().ok();
    assert_eq!(ran.lines(), ["good.eml: prof@by.example: proven by a DKIM signature of by.example (s1)"]);
    let ran = auth(&["good.eml", "bad.eml", "no.eml"]).run().fails(77).err_has("no.eml");
    assert_eq!(
        ran.lines()[1],
        "bad.eml: prof@by.example: not proven: it has no Authentication-Results; it has no DKIM signature"
    );
    auth(&["no.eml"]).run().fails(66);
    let ran = auth(&["-", "--json"]).stdin(bench.read("good.eml")).run().ok();
    let record = &ran.json()[0];
    assert_eq!(
        (&record["kind"], &record["state"], &record["path"]),
        (&json!("auth"), &json!("proven"), &json!(null))
    );
    auth(&["good.eml", "--run"]).run().fails(64);
    // Without a configuration signatures count all the same; without any proof a rule that asks for it is refused.
    bench.write(
        "config.toml",
        "[auth]\ndkim = false\n[[rule]]\nname = 'p'\nauthenticated = true\nrun = ['lp']\n",
    );
    auth(&["good.eml"]).run().fails(78).err_has("nothing can prove a sender");
    bench.write("config.toml", "[[rule]]\nname = 'p'\nfrom = '*@b'\nauthenticated = true\nrun = ['lp']\n");
    let ran = bench.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().ok();
    assert!(
        ran.out_text().contains("the only From is *@b and the sender is proven; runs lp"),
        "{}",
        ran.shown()
    );
}

#[test]
fn names_are_looked_up() {
    let zone = Zone::serve();
    let rsa = Signer { rsa: true, ..signer("by.example") };
    zone.set("k.by.example", Said::Txt(vec![rsa.record()]));
    zone.set("alias.by.example", Said::Alias("k.by.example".into()));
    zone.set("long.by.example", Said::Txt(vec!["x".repeat(5000), "y".repeat(60)]));
    zone.set("broken.by.example", Said::Failure);
    let mut resolver = Resolver::new(vec![zone.address], Duration::from_millis(300));
    let text = |records: Vec<Vec<u8>>| {
        records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(text(resolver.txt("K.by.example").unwrap()), [rsa.record()]);
    assert_eq!(text(resolver.txt("alias.by.example").unwrap()), [rsa.record()]);
    assert_eq!(text(resolver.txt("long.by.example").unwrap()), ["x".repeat(5000), "y".repeat(60)]);
    assert!(resolver.txt("no.by.example").unwrap().is_empty());
    assert_eq!(resolver.txt("a..b").unwrap_err().status(), 65);
    // A failure is of one name; silence is of the server, and then nobody else waits.
    assert_eq!(resolver.txt("broken.by.example").unwrap_err().status(), 75);
    let asked = zone.asked().len();
    assert!(resolver.txt("k.by.example").is_ok() && resolver.txt("K.by.example").is_ok());
    assert_eq!(zone.asked().len(), asked + 1, "an answer is kept");
    zone.set("silent.by.example", Said::Silence);
    assert_eq!(resolver.txt("silent.by.example").unwrap_err().status(), 75);
    let asked = zone.asked().len();
    assert_eq!(resolver.txt("other.by.example").unwrap_err().status(), 75);
    assert_eq!(zone.asked().len(), asked);
    // Another server stands in.
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut resolver = Resolver::new(vec![dead, zone.address], Duration::from_millis(300));
    assert_eq!(text(resolver.txt("k.by.example").unwrap()), [rsa.record()]);
    let bench = Bench::new();
    let file =
        bench.write("resolv.conf", "# x\nsearch a\nnameserver 192.0.2.1\nnameserver ::1 # y\nnameserver x\n");
    assert_eq!(system(&file), ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!(system(&bench.path("none")), ["127.0.0.1:53".parse().unwrap()]);
}

#[test]
fn an_rsa_key_of_two_strings_proves_a_large_message() {
    let (bench, zone) = bench();
    let rsa = Signer { rsa: true, form: "simple/relaxed", selector: "rsa".into(), ..signer("by.example") };
    zone.set(&rsa.name(), Said::Txt(vec![rsa.record()]));
    // Mapped, not read; long lines too.
    let body = format!("{}\r\n{}\r\n", "x y\t z ".repeat(200_000), "line\r\n\r\n".repeat(100_000));
    let text = rsa.sign(&format!("From: prof@by.example\r\n\r\n{body}"));
    bench.write("large.eml", &text);
    bench.cmd("mail-act").args(["-c", "config.toml", "--auth", "large.eml"]).run().ok();
    bench.write("large.eml", text.replacen("line", "lime", 1));
    bench.cmd("mail-act").args(["-c", "config.toml", "--auth", "large.eml"]).run().fails(77).err_has("");
}
