use std::collections::HashMap;

use super::*;

#[cfg(feature = "dkim")]
#[path = "../../../tests/auth/signer.rs"]
mod signer;

/// 2026-11-22.
const AT: i64 = 1_795_300_000;

fn ask(message: &str, trusted: &[&str], zone: &HashMap<String, Vec<Vec<u8>>>) -> Verdict {
    let trusted: Vec<String> = trusted.iter().map(|id| id.to_string()).collect();
    let terms = Terms {
        trusted: &trusted,
        is_ours: &|host| host == "store.internal",
        dkim: true,
        at: AT,
        look_up: &|name| match zone.get(name) {
            Some(records) if records.first().is_some_and(|text| text == b"(down)") => {
                Found::Later("no answer".into())
            }
            records => Found::Records(records.cloned().unwrap_or_default()),
        },
    };
    judge(message.as_bytes(), &terms)
}

/// What the own server said, and nothing else.
fn found(head: &str) -> Result<String, String> {
    let message = format!("{head}\r\nFrom: P <prof@by.example>\r\n\r\nbody\r\n");
    match ask(&message, &["mx.by.example"], &HashMap::new()).proof {
        Proof::Proven { from, by, .. } => {
            assert_eq!(from, "prof@by.example");
            Ok(by)
        }
        Proof::Unproven(why) | Proof::Later(why) => Err(why),
    }
}

#[test]
fn the_own_server_s_word() {
    for head in [
        "Authentication-Results: mx.by.example; dkim=pass header.d=by.example",
        "authentication-results : MX.by.example 1;\r\n\tdkim=fail header.d=x.example;\r\n dkim=PASS (x) header.d=BY.example",
        "Authentication-Results: mx.by.example; dkim=pass header.i=@by.example header.s=1",
        "Authentication-Results: mx.by.example; spf=fail; dmarc=pass (p=NONE) header.from=by.example",
        "Received: from x by mx.by.example; today\r\nAuthentication-Results: mx.by.example; dmarc=pass header.from=by.example",
        "Received: by store.internal; today\r\nAuthentication-Results: mx.by.example; dmarc=pass header.from=by.example",
        "Received: from mx by imap.mx.by.example; x\r\nAuthentication-Results: mx.by.example; dmarc=pass header.from=by.example",
    ] {
        assert!(found(head).is_ok(), "{head}: {:?}", found(head));
    }
}

#[test]
fn whose_word_does_not_count() {
    let good = "Authentication-Results: mx.by.example; dmarc=pass header.from=by.example";
    for (head, why) in [
        ("X: y".to_string(), "no Authentication-Results"),
        // On top of the own server's, and below it.
        (
            format!("Authentication-Results: mx.evil.example; dmarc=pass header.from=by.example\r\n{good}"),
            "not trusted",
        ),
        (
            format!("Authentication-Results: mx.by.example; dmarc=fail header.from=by.example\r\n{good}"),
            "DMARC failed",
        ),
        (format!("Authentication-Results: mx.by.example; none\r\n{good}"), "no signature"),
        (
            format!("Authentication-Results: mx.by.example; spf=pass smtp.mailfrom=by.example\r\n{good}"),
            "no signature",
        ),
        (format!("Authentication-Results:\r\n{good}"), "cannot be understood"),
        (format!("Received: from a by mx.evil.example; x\r\n{good}"), "not ours"),
        (format!("Received: by mx.by.example\r\nReceived: x\r\n{good}"), "not ours"),
        (format!("Received: from by by.example by mx.evil.example\r\n{good}"), "not ours"),
        (good.replace("dmarc=pass", "dmarc=fail"), "DMARC failed"),
        (good.replace("dmarc=pass", "dkim=pass header.d=by.example; dmarc=fail"), "DMARC failed"),
        (good.replace("header.from=by.example", "header.from=evil.example"), "no signature"),
        (good.replace("header.from=by.example", "header.from=example"), "no signature"),
        (good.replace("header.from=by.example", "(header.from=by.example)"), "no signature"),
        (good.replace("mx.by.example;", "(mx.by.example;) mx.evil.example;"), "not trusted"),
        (good.replace("mx.by.example;", "mx.by.example.evil.example;"), "not trusted"),
        (
            good.replace("dmarc=pass header.from=", "dkim=pass header.d=evil.example header.x="),
            "evil.example signed it",
        ),
        (
            good.replace("dmarc=pass", "dkim=pass header.d=example header.i=@by.example x"),
            "cannot be understood",
        ),
        (
            good.replace("dmarc=pass header.from=", "dkim=pass header.d=example header.i=@"),
            "example signed it",
        ),
        (good.replace("dmarc=pass", "spf=pass reason=\"; dmarc=pass\""), "no signature"),
        (good.replace("dmarc=pass", "dmarc=pass\u{e9}"), "no ASCII"),
        (good.replace("dmarc=pass", &format!("dmarc=pass {}", "x".repeat(20_000))), "cannot be understood"),
    ] {
        let said = found(&head).expect_err(&head);
        assert!(said.contains(why), "{head}: {said}");
    }
    for field in ["To: a@x", "Subject: x", "Content-Type: text/plain", "content-transfer-encoding : 7bit"] {
        let said = found(&format!("{good}\r\n{field}\r\nX: y\r\n{field}")).expect_err(field);
        assert!(said.contains("more than one"), "{field}: {said}");
    }
    let message = format!("{good}\r\nFrom: prof@by.example\r\n\r\n");
    let said = ask(&message, &[], &HashMap::new());
    assert!(matches!(&said.proof, Proof::Unproven(why) if why.contains("no authserv-id")), "{said:?}");
}

#[test]
fn a_head_that_readers_could_read_differently_proves_nothing() {
    let good = "Authentication-Results: mx.by.example; dmarc=pass header.from=by.example\r\n";
    for (rest, why) in [
        ("From: prof@by.example\r\n\r\n", None),
        ("From: prof@by.example", None),
        ("From: prof@by.example\r\nfrom : x@evil.example\r\n\r\n", Some("more than one From")),
        ("From: x@evil.example\r\nFrom: prof@by.example\r\n\r\n", Some("more than one From")),
        ("From: prof@by.example, x@evil.example\r\n\r\n", Some("more than one address")),
        ("From: team: prof@by.example;\r\n\r\n", Some("group")),
        ("From: prof@by.ex\u{430}mple\r\n\r\n", Some("no ASCII")),
        ("To: x\r\n\r\nFrom: prof@by.example\r\n", Some("no From")),
        ("From: prof@by.example\nX: y\r\n\r\n", Some("different ways")),
        ("From: prof@by.example\r\nX: y\rFrom: x@evil.example\r\n\r\n", Some("lone carriage return")),
        ("From: prof@by.example\r\nX\r\n\r\n", Some("no field")),
        ("From: prof@by.example\r\n \t\r\nX: y\r\n\r\n", Some("belongs to no field")),
        ("From prof@by.example today\r\nFrom: prof@by.example\r\n\r\n", Some("no field")),
        ("From\0: prof@by.example\r\n\r\n", Some("NUL")),
        ("F\u{fc}r: x\r\nFrom: prof@by.example\r\n\r\n", Some("no field")),
    ] {
        let verdict = ask(&format!("{good}{rest}"), &["mx.by.example"], &HashMap::new());
        match (why, &verdict.proof) {
            (None, Proof::Proven { .. }) => {}
            (Some(why), Proof::Unproven(said)) if said.contains(why) => {}
            _ => panic!("{rest:?}: {verdict:?}"),
        }
    }
    for message in ["", "\r\n", "\r\nFrom: prof@by.example\r\n\r\n", " From: prof@by.example\r\n\r\n"] {
        let verdict = ask(message, &["mx.by.example"], &HashMap::new());
        assert!(matches!(verdict.proof, Proof::Unproven(_)) && verdict.from.is_none(), "{message:?}");
    }
}

proptest::proptest! {
    /// Whatever a stranger writes is judged, and proves nothing.
    #[test]
    fn no_bytes_make_it_panic(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "From:", "prof@by.example", "\r\n", "\n", "\r", " ", "\t", "(", ")", "\"", "<", ">", ":", ";", ",", "=", "\\", "\u{e4}",
            "Authentication-Results: ", "mx.by.example; ", "dkim=", "fail ", "header.d=", "Received: from a by b",
            "DKIM-Signature: ", "v=1; a=rsa-sha256; ", "d=by.example; s=s1; ", "bh=AAAA; ", "b=AAAA", "h=from; ", "l=0; ", "=?utf-8?q?", "?=",
        ]), 0..40),
    ) {
        let zone = HashMap::from([("s1._domainkey.by.example".to_string(), vec![b"p=AAAA".to_vec()])]);
        let verdict = ask(&pieces.concat(), &["mx.by.example"], &zone);
        assert!(matches!(verdict.proof, Proof::Unproven(_)), "{verdict:?}");
    }
}

#[cfg(feature = "dkim")]
mod signed {
    use super::signer::{Signer, signer};
    use super::*;

    const MESSAGE: &str = "From: Prof <prof@by.example>\r\nTo: me@by.example\r\nSubject:  Home\r\n\t work \r\n\
        Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nX-Other: y\r\n\r\n Hello  you\t\r\n\r\nbye\r\n\r\n\r\n";

    fn zone(of: &[&Signer]) -> HashMap<String, Vec<Vec<u8>>> {
        of.iter().map(|signer| (signer.name(), vec![signer.record().into_bytes()])).collect()
    }

    fn verdict(message: &str, zone: &HashMap<String, Vec<Vec<u8>>>) -> Result<String, String> {
        match ask(message, &[], zone).proof {
            Proof::Proven { by, .. } => Ok(by),
            Proof::Unproven(why) => Err(why),
            Proof::Later(why) => Err(format!("later: {why}")),
        }
    }

    /// RFC 8463 appendix A, with both of its signatures.
    const RFC_8463: &str = include_str!("../../../tests/data/auth/rfc8463.eml");
    const RFC_ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const RFC_RSA: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5q\
        hdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLz\
        BfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";

    #[test]
    fn the_example_of_rfc_8463() {
        let wire = RFC_8463.replace("\r\n", "\n").replace('\n', "\r\n");
        for (selector, record) in [("brisbane", RFC_ED25519), ("test", RFC_RSA)] {
            let name = format!("{selector}._domainkey.football.example.com");
            let zone = HashMap::from([(name, vec![record.as_bytes().to_vec()])]);
            let by = format!("a DKIM signature of football.example.com ({selector})");
            assert_eq!(verdict(&wire, &zone).as_deref(), Ok(by.as_str()));
            assert_eq!(verdict(&wire.replace("\r\n", "\n"), &zone).as_deref(), Ok(by.as_str()));
            for (what, other) in
                [("hungry", "angry"), ("Joe SixPack", "Joe  S"), ("dinner", "lunch"), ("Suzie", "Susie")]
            {
                assert!(verdict(&wire.replacen(what, other, 1), &zone).is_err(), "{what}");
            }
        }
    }

    #[test]
    fn every_form_of_a_good_signature() {
        for rsa in [false, true] {
            for form in ["relaxed/relaxed", "simple/simple", "relaxed/simple", "simple/relaxed"] {
                let by = Signer { rsa, form, ..signer("by.example") };
                let message = by.sign(MESSAGE);
                assert!(verdict(&message, &zone(&[&by])).is_ok(), "{:?}", verdict(&message, &zone(&[&by])));
                // As programs store it.
                assert!(verdict(&message.replace("\r\n", "\n"), &zone(&[&by])).is_ok());
                let folded = message.replace("Prof <", "Prof\r\n   <");
                assert_eq!(verdict(&folded, &zone(&[&by])).is_ok(), form.starts_with("relaxed/"), "{form}");
                let blanks = message.replace("Hello  you\t", "Hello you  ");
                assert_eq!(verdict(&blanks, &zone(&[&by])).is_ok(), form.ends_with("/relaxed"), "{form}");
                let below = format!("Received: from x by y\r\nX: z\r\n{message}\r\n\r\n");
                assert!(verdict(&below, &zone(&[&by])).is_ok(), "{form}");
            }
        }
        let empty = MESSAGE.split_inclusive("\r\n\r\n").next().unwrap();
        let by = signer("by.example");
        assert!(verdict(&by.sign(empty), &zone(&[&by])).is_ok());
        assert!(
            verdict(&signer("by.example").sign(&MESSAGE.replace("@by", "@cs.by")), &zone(&[&by])).is_ok()
        );
        let long = Signer { length: Some(" Hello you\r\n\r\nbye\r\n".len()), ..by.clone() };
        assert!(verdict(&long.sign(MESSAGE), &zone(&[&by])).is_ok());
        let timed = Signer {
            more: format!("t={}; x={}; i=x@A.By.example; q=dns/txt; ", AT - 9, AT + 9),
            ..by.clone()
        };
        assert!(verdict(&timed.sign(MESSAGE), &zone(&[&by])).is_ok());
        // Another's signature above or below does no harm.
        let (evil, all) = (signer("evil.example"), zone(&[&signer("evil.example"), &by]));
        assert!(verdict(&evil.sign(&by.sign(MESSAGE)), &all).is_ok());
        assert!(verdict(&by.sign(&evil.sign(MESSAGE)), &all).is_ok());
    }

    #[test]
    fn every_single_changed_octet_is_seen() {
        let by =
            Signer { form: "simple/simple", covered: "From:To:Subject:Date:X-Other", ..signer("by.example") };
        let message = by.sign(MESSAGE);
        let all = zone(&[&by]);
        assert!(verdict(&message, &all).is_ok());
        let end = message.trim_end().len();
        for at in 0..end {
            let mut bytes = message.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(verdict(&changed, &all).is_err(), "octet {at} of {changed:?}");
        }
    }

    #[test]
    fn signatures_that_do_not_count() {
        let by = signer("by.example");
        let more = |more: String| Signer { more, ..by.clone() }.sign(MESSAGE);
        let evil = signer("evil.example");
        let all = zone(&[&by, &evil, &signer("example"), &signer("sub.by.example")]);
        let second = Signer { covered: "From:To", ..by.clone() }.sign(MESSAGE);
        for (message, why) in [
            (MESSAGE.to_string(), "no DKIM signature"),
            (evil.sign(MESSAGE), "of evil.example does not stand for by.example"),
            (signer("example").sign(MESSAGE), "does not stand for"),
            (signer("sub.by.example").sign(MESSAGE), "does not stand for"),
            (
                Signer { domain: "by.example".into(), ..evil.clone() }
                    .sign(MESSAGE)
                    .replace("prof@", "boss@"),
                "header was changed",
            ),
            (Signer { seed: 8, ..by.clone() }.sign(MESSAGE), "another key"),
            (Signer { covered: "To:Subject", ..by.clone() }.sign(MESSAGE), "does not cover From"),
            (Signer { length: Some(12), ..by.clone() }.sign(MESSAGE), "whole body"),
            (Signer { length: Some(0), ..by.clone() }.sign(MESSAGE), "whole body"),
            (more("x=1000; ".into()), "expired"),
            (more(format!("x={}; ", AT - 1)), "expired"),
            (more(format!("t={}; x={}; ", AT, AT)), "expired"),
            (more(format!("t={}; ", AT + 3600)), "future"),
            (more("x=soon; ".into()), "no number"),
            (more("x=-1; ".into()), "no number"),
            (more("i=@evil.example; ".into()), "elsewhere (i=)"),
            (more("i=@by.example.evil.example; ".into()), "elsewhere (i=)"),
            (more("q=http; ".into()), "elsewhere than in DNS"),
            (more("h=From; ".into()), "h= twice"),
            (more("; ".into()), "empty tag"),
            (by.sign(MESSAGE).replace("a=ed25519-sha256", "a=rsa-sha1"), "rsa-sha1, which is not taken"),
            (by.sign(MESSAGE).replace("a=ed25519-sha256", "a=rsa-sha256"), "of another kind"),
            (by.sign(MESSAGE).replace("v=1;", "v=2;"), "another version"),
            (by.sign(MESSAGE).replace("v=1;", ""), "no v="),
            (by.sign(MESSAGE).replace("s=s1", "s=s2"), "not published"),
            (by.sign(MESSAGE).replace("s=s1", "s=s1.evil@x"), "domain or selector"),
            (by.sign(MESSAGE).replace("c=relaxed", "c=nofws"), "strange c="),
            (by.sign(MESSAGE).replace("bye", "Bye"), "body was changed"),
            (by.sign(MESSAGE).replace("bye\r\n", "bye\r\nmore\r\n"), "body was changed"),
            (by.sign(MESSAGE).replace("Home", "home"), "header was changed"),
            (
                by.sign(MESSAGE).replace("\r\nFrom:", "\r\nFrom: boss@by.example\r\nFrom:"),
                "more than one From",
            ),
            // From was covered once only: a second one is refused before any signature is asked.
            (format!("From: boss@by.example\r\n{second}"), "more than one From"),
            (second.replace("\r\nFrom:", "\r\nFrom : boss@by.example\r\nFrom:"), "more than one From"),
            ("DKIM-Signature: v=1; d=by.example; s=s1\r\n".repeat(20) + MESSAGE, "more than 16"),
            (evil.sign(&MESSAGE.replace("by.example>", "by.examp1e>")), "does not stand for by.examp1e"),
            (by.sign(MESSAGE).replace("DKIM-Signature:", "X-Signature:"), "no DKIM signature"),
        ] {
            let said = verdict(&message, &all).expect_err(&message);
            assert!(said.contains(why) && !said.starts_with("later"), "{why:?} is wanted: {said}\n{message}");
        }
    }

    /// Whoever has a message that is signed can put fields above it.
    #[test]
    fn what_is_put_above_a_signed_message() {
        let by = Signer { covered: "From:To:Subject:Date:Content-Type", ..signer("by.example") };
        let typed = MESSAGE.replace("X-Other: y", "Content-Type: multipart/mixed; boundary=a");
        let (message, all) = (by.sign(&typed), zone(&[&by]));
        for field in ["Content-Type: multipart/mixed; boundary=b", "Subject: print", "to: print@by.example"] {
            let said = verdict(&format!("{field}\r\n{message}"), &all).unwrap_err();
            assert!(said.contains("more than one"), "{field}: {said}");
        }
        let loose = |message: &str| match ask(message, &[], &all).proof {
            Proof::Proven { loose, .. } => loose,
            other => panic!("{other:?}"),
        };
        assert!(loose(&message).is_empty());
        assert_eq!(loose(&format!("Cc: print@by.example\r\n{message}")), ["Cc"]);
        let less = Signer { covered: "From:Date", ..signer("by.example") };
        assert_eq!(loose(&less.sign(MESSAGE)), ["To", "Subject"]);
        // Of two signatures the one that covers more.
        let more = Signer { covered: "From:To:To", ..signer("by.example") };
        assert_eq!(loose(&more.sign(&less.sign(MESSAGE))), ["Subject"]);
        assert_eq!(loose(&less.sign(&more.sign(MESSAGE))), ["Subject"]);
        let said = verdict(&less.sign(&typed), &all).unwrap_err();
        assert!(said.contains("does not cover Content-Type"), "{said}");
    }

    #[test]
    fn keys_that_do_not_count() {
        let by = signer("by.example");
        let message = by.sign(MESSAGE);
        let good = by.record();
        let with = |records: &[&str]| {
            let records = records.iter().map(|text| text.as_bytes().to_vec()).collect();
            verdict(&message, &HashMap::from([(by.name(), records)]))
        };
        for records in
            [&[good.as_str()][..], &["v=spf1 -all", &good], &[&format!("{good}; t=s; s=*:x; h=sha1:sha256;")]]
        {
            assert!(with(records).is_ok(), "{records:?}");
        }
        for (records, why) in [
            (&[][..], "not published"),
            (&["v=spf1 -all"], "not published"),
            (&[&good, &good], "more than one key"),
            (&["v=DKIM1; k=ed25519; p="], "revoked"),
            (&["v=DKIM1; k=ed25519; p=!"], "cannot be read"),
            (&["v=DKIM1; k=ed25519; p=AAAA"], "another key"),
            (&[&good.replace("k=ed25519", "k=rsa")], "another kind"),
            (&[&good.replace("DKIM1", "DKIM2")], "another version"),
            (&[&format!("{good}; t=y")], "tested"),
            (&[&format!("{good}; s=tlsrpt")], "not for mail"),
            (&[&format!("{good}; h=sha1")], "SHA-256"),
        ] {
            let said = with(records).unwrap_err();
            assert!(said.contains(why), "{records:?}: {said}");
        }
        let strict = HashMap::from([(by.name(), vec![format!("{good}; t=s").into_bytes()])]);
        let below = Signer { more: "i=@x.by.example; ".into(), ..by.clone() }.sign(MESSAGE);
        assert!(verdict(&below, &strict).unwrap_err().contains("domain itself"));
        let rsa = Signer { rsa: true, ..by.clone() };
        for (key, why) in [
            // 768 bits.
            (SMALL, "768 bits"),
            ("AAAA", "cannot be read"),
            ("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "cannot be read"),
        ] {
            let zone = HashMap::from([(by.name(), vec![format!("v=DKIM1; p={key}").into_bytes()])]);
            let said = verdict(&rsa.sign(MESSAGE), &zone).unwrap_err();
            assert!(said.contains(why), "{key}: {said}");
        }
    }

    const SMALL: &str = "MHwwDQYJKoZIhvcNAQEBBQADawAwaAJhAMFgDG2P5HU341jNrCBNsK00JkM0ojAIRxq5h78lvIpFuzQsy9+j\
        00nyWIgdNOfg/gh042IIqauCHmXINxjhNdSCpCGYc5zpWdiIRVQ7N4G3HLWh2AvBXXJWmuhXOvmmJQIDAQAB";

    #[test]
    fn what_dns_cannot_tell_now_is_asked_again() {
        let by = signer("by.example");
        let down = HashMap::from([(by.name(), vec![b"(down)".to_vec()])]);
        let said = verdict(&by.sign(MESSAGE), &down).unwrap_err();
        assert!(said.starts_with("later: ") && said.contains("no answer"), "{said}");
        // No key is asked for where it could prove nothing.
        assert!(!verdict(&by.sign(MESSAGE).replace("bye", "Bye"), &down).unwrap_err().starts_with("later"));
        assert!(!verdict(&signer("evil.example").sign(MESSAGE), &down).unwrap_err().starts_with("later"));
        // A proof by another way needs no DNS.
        let other = Signer { selector: "s2".into(), ..by.clone() };
        let mut both = zone(&[&other]);
        both.extend(down);
        assert!(verdict(&by.sign(&other.sign(MESSAGE)), &both).is_ok());
    }
}
