//! Messages that can be read in two ways, or not at all: what is in them is found, or said to be missing.

use super::{attached, base64, dissect, hello, message, names, part};
use crate::bench::{Bench, pdf};

/// Takes `text` apart as m.eml with these options: the status, the files, and what was said.
fn taken(text: impl AsRef<[u8]>, options: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let bench = Bench::new();
    bench.write("m.eml", text);
    let ran = dissect(&bench).args(options.iter().copied()).arg("m.eml").run();
    (ran.status, names(&bench), ran.err_text())
}

/// A message with a `From ` line in front, as an mbox has it; with LF and with CRLF.
fn in_mbox(text: &str) -> [String; 2] {
    let text = format!("From a@b Sat Nov 21 10:00:00 2026\n{text}");
    [text.replace('\n', "\r\n"), text]
}

#[test]
fn a_from_line_within_a_part_begins_no_message() {
    let patch = "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\nFrom: a@x\n\
        Subject: [PATCH] x\n\n---\n-- \n2.43\n\n";
    let head = "Content-Type: text/x-patch\nContent-Disposition: attachment; filename=1.patch\n";
    let texts = [
        format!("Content-Type: text/plain\n\nhi\n\nFrom me Sat Nov 21 10:00:00 2026\n\n{patch}"),
        format!("{head}\n{patch}{patch}"),
    ];
    for text in texts {
        let mail = message("m", &[text, attached("a.pdf", &pdf("a"))]);
        for mbox in in_mbox(&mail) {
            let (status, names, said) = taken(&mbox, &[]);
            assert_eq!((status, names), (Some(0), vec!["a.pdf".to_string()]), "{said}");
            let two = format!("{mbox}\n{mbox}");
            let bench = Bench::new();
            bench.write("m.eml", two.replace("\n\nFrom a@b", "\r\n\r\nFrom a@b"));
            let ran = dissect(&bench).args(["--json", "m.eml"]).run().ok();
            assert_eq!(ran.json().len(), 2, "{}", ran.shown());
        }
    }
}

#[test]
fn a_message_that_was_cut_swallows_none_that_follow() {
    let cut = message("m", &[attached("a.pdf", &pdf("a"))]).replace("--=_b--\n", "\n");
    for mbox in in_mbox(&cut) {
        let bench = Bench::new();
        bench.write("m.eml", mbox.repeat(3));
        let ran = dissect(&bench).args(["--json", "m.eml"]).run().ok();
        assert_eq!(ran.json().len(), 3, "{}", ran.shown());
    }
}

#[test]
fn a_pdf_is_found_behind_much_that_is_nothing() {
    let head =
        |encoding: &str| format!("Content-Type: x/y; name=a\nContent-Transfer-Encoding: {encoding}\n\n");
    let bytes = base64(&pdf("a"));
    for text in [
        format!("{}{}{bytes}\n", head("base64"), "\n".repeat(40_000)),
        format!("{}{}{bytes}\n", head("base64"), "!!!!!!\n".repeat(10_000)),
        format!("{}{}%PDF-1.7\n", head("quoted-printable"), "=\n".repeat(30_000)),
    ] {
        let (status, names, said) = taken(text, &[]);
        assert_eq!((status, names), (Some(0), vec!["a.pdf".to_string()]), "{said}");
    }
}

#[test]
fn a_container_with_a_pdf_in_it_is_none() {
    let tnef = [
        &[0x78, 0x9f, 0x3e, 0x22, 1, 0, 2, 2, 0x90, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0x0f, 0x80, 6, 0][..],
        &[13, 0, 0, 0],
        b"%PDF-1.7\nabcd",
        &[0, 0],
    ]
    .concat();
    let winmail = part("Content-Type: application/ms-tnef; name=winmail.dat", &tnef);
    let (status, names, said) = taken(&winmail, &[]);
    assert_eq!((status, names), (Some(0), vec!["attachment.pdf".to_string()]), "{said}");
    let (status, names, said) = taken(&winmail, &["--no-containers"]);
    assert_eq!((status, names), (Some(0), vec![]), "{said}");
    let mut tar = vec![0; 512];
    tar[..5].copy_from_slice(b"a.pdf");
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend(pdf("a"));
    let (status, names, said) = taken(part("Content-Type: application/x-tar; name=a.tar", &tar), &[]);
    assert_eq!((status, names), (Some(0), vec![]), "{said}");
}

#[test]
fn a_part_that_no_message_has_is_said() {
    let bench = Bench::new();
    let mail = message("m", &[attached("a.pdf", &pdf("a"))]);
    bench.write("m.eml", &mail);
    bench.write("n.eml", mail.replace("<m@", "<n@"));
    for view in [None, Some("--list"), Some("--dry-run")] {
        let ran = dissect(&bench).args(view).args(["--part", "9.9", "--part", "1", "m.eml", "n.eml"]).run();
        assert_eq!(ran.status, Some(66), "{}", ran.shown());
        let said = ran.err_text();
        assert_eq!(said.lines().filter(|line| line.contains("9.9")).count(), 1, "{said}");
        dissect(&bench).args(view).args(["--part", "1", "m.eml", "n.eml"]).run().ok();
    }
    dissect(&bench).args(["--pending", "m.eml"]).run().ok();
    // What is not read again may have it.
    dissect(&bench).args(["--pending", "--part", "9.9", "m.eml"]).run().ok();
}

#[test]
fn a_head_that_is_cut_within_what_it_says_of_the_body_is_said() {
    let long = |name: &str| format!("{name}; x={}\n y=z; name=a.pdf\n\nbody\n", "a".repeat(400));
    for field in ["Content-Type: a/b", "Content-Disposition: attachment", "content-transfer-encoding: 7bit"] {
        for before in ["", "From: a@x\nSubject: x\n"] {
            let (status, _, said) = taken(format!("{before}{}", long(field)), &["--max-header", "300"]);
            assert_eq!(status, Some(65), "{field}: {said}");
            assert!(said.contains("head longer than 300 bytes"), "{said}");
        }
    }
    let whole = format!("Content-Type: text/plain\nSubject: {}", long("s"));
    assert_eq!(taken(&whole, &["--max-header", "300"]).0, Some(0));
    // A name that is cut in the middle, and a field that is whole.
    let late = format!("X: {}\nContent-Type: a/b\n\nbody\n", "x".repeat(288));
    assert_eq!(taken(&late, &["--max-header", "300"]).0, Some(65));
    let whole = format!("Content-Type: a/b\nX: {}\n\nbody\n", "x".repeat(400));
    assert_eq!(taken(&whole, &["--max-header", "18"]).0, Some(0));
}

#[test]
fn signed_mime_that_cannot_be_read_is_said() {
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7];
    let p7m = |rest: &[u8]| part("Content-Type: application/pkcs7-mime; name=smime.p7m", rest);
    let cut = [&[0x30, 0x82, 0x10, 0][..], &oid, &[2, 0xa0, 0x82, 0x0f]].concat();
    let (status, _, said) = taken(p7m(&cut), &[]);
    assert_eq!(status, Some(65), "{said}");
    assert!(said.contains("part 1: S/MIME that cannot be read"), "{said}");
    for kind in [3, 5, 6] {
        let other = [&[0x30, 13][..], &oid, &[kind, 0xa0, 0]].concat();
        assert_eq!(taken(p7m(&other), &[]).0, Some(0), "{kind}");
    }
}

#[test]
fn a_multipart_that_was_sent_encoded_is_opened() {
    let mail = message("m", &[hello(), attached("a.pdf", &pdf("a"))]);
    let (head, body) = mail.split_once("\n\n").unwrap();
    let encoded = format!("{head}\nContent-Transfer-Encoding: base64\n\n{}\n", base64(body.as_bytes()));
    let (status, names, said) = taken(&encoded, &[]);
    assert_eq!((status, names), (Some(0), vec!["a.pdf".to_string()]), "{said}");
    let (_, _, said) = taken(&encoded, &["--list"]);
    assert!(said.contains("part 0: a multipart that was sent encoded"), "{said}");
    let within = encoded.split_once("MIME-Version: 1.0\n").unwrap().1;
    let outer = message("o", &[hello(), within.to_string()]).replacen("=_b", "=_o", 1);
    let outer = outer.replace("--=_b\n", "--=_o\n").replace("--=_b--", "--=_o--");
    let bench = Bench::new();
    bench.write("m.eml", outer);
    let ran = dissect(&bench).args(["--json", "m.eml"]).run().ok();
    assert_eq!(ran.json()[0]["part"], "2.2", "{}", ran.shown());
}
