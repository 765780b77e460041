use super::*;
use crate::mail::decode;
use crate::mail::lines::Measure;
use crate::mail::part::{Limits, Part, Tree};

fn convert(want: Want, text: &[u8]) -> Result<Vec<u8>, String> {
    let plan = Survey::read(want, &mut &text[..]).unwrap().plan()?;
    let mut out = Vec::new();
    Converted::new(text, &plan).read_to_end(&mut out).unwrap();
    Ok(out)
}

fn text(want: Want, message: &str) -> Result<String, String> {
    convert(want, message.replace('\n', "\r\n").as_bytes()).map(|out| {
        let out = String::from_utf8(out).unwrap();
        assert!(!out.replace("\r\n", "").contains(['\r', '\n']), "{out:?}");
        out.replace("\r\n", "\n")
    })
}

/// The decoded leaves, as our own reader finds them.
fn leaves(message: &[u8]) -> Vec<Vec<u8>> {
    let tree = Tree::parse(message, &Limits { containers: false, ..Limits::default() });
    let leaf = |part: &Part| {
        let mut out = Vec::new();
        decode::decode(&part.encoding, tree.body(part), &mut out).unwrap();
        out
    };
    tree.parts.iter().filter(|part| !part.is_message).map(leaf).collect()
}

#[test]
fn a_plain_text_gets_what_it_lacks() {
    let out = text(Want::SevenBit, "From: a@x\nSubject: Grüße\n\nZwölf = 12 \nx\n").unwrap();
    assert_eq!(
        out,
        "From: a@x\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\n\nZw=C3=B6lf =3D 12=20\nx\n"
    );
    let latin = b"From: a@x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xfc\r\n";
    let out = convert(Want::SevenBit, latin).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "From: a@x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n=FC\r\n"
    );
    let out = convert(Want::SevenBit, b"From: a@x\r\n\r\n\xfc\r\n").unwrap();
    assert!(String::from_utf8(out).unwrap().contains("charset=unknown-8bit"));
}

#[test]
fn a_line_of_blanks_does_not_end_a_header() {
    let head = "From: a@x\nSubject: hello\n \nX-Keep: yes\n\t \n  \nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n";
    let out = text(Want::SevenBit, &format!("{head}\nü\n")).unwrap();
    assert_eq!(out, format!("{head}Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"));
    let out = text(Want::ShortLines, &format!("{head}\n{}\n", "z".repeat(2000))).unwrap();
    assert!(out.starts_with(&format!("{head}Content-Transfer-Encoding: quoted-printable\n\nzz")), "{out}");
}

const MIXED: &str = "From: a@x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\nContent-Transfer-Encoding: 8bit\n\n\
    for old readers\n--B\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nü\n--B\n\
    Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nJVBERg==\n--B\nContent-Type: message/rfc822\n\
    Content-Transfer-Encoding: 8bit\n\nSubject: ä\n\nö\n--B--\n";

#[test]
fn only_the_parts_that_need_it() {
    let out = text(Want::SevenBit, MIXED).unwrap();
    assert_eq!(
        out,
        "From: a@x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n\
         for old readers\n--B\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--B\n\
         Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nJVBERg==\n--B\nContent-Type: message/rfc822\n\n\
         Subject: =?utf-8?b?w6Q=?=\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--B--\n"
    );
    assert_eq!(text(Want::ShortLines, MIXED).unwrap(), MIXED, "nothing is too long in it");
}

#[test]
fn what_must_not_be_changed_stops_it() {
    let signed = MIXED.replace("Subject: ä", "Subject: a");
    let signed =
        signed.replace("multipart/mixed", "multipart/signed; protocol=\"application/pgp-signature\"");
    assert!(text(Want::SevenBit, &signed).unwrap_err().contains("signed"));
    let fragment = "From: a@x\nContent-Type: message/partial; id=1; number=1\n\nü\n";
    assert!(text(Want::SevenBit, fragment).unwrap_err().contains("may not be encoded"));
    let empty = "From: a@x\nContent-Type: multipart/mixed\n\nü\n";
    assert!(text(Want::SevenBit, empty).unwrap_err().contains("may not be encoded"));
    let own = "From: a@x\nContent-Type: text/plain\nContent-Transfer-Encoding: x-mine\n\nü\n";
    assert!(text(Want::SevenBit, own).unwrap_err().contains("encoding of its own"));
    assert!(text(Want::SevenBit, "From: jürgen@x\n\nx\n").unwrap_err().contains("ASCII"));
    let empty = "From: a@x\nContent-Type: multipart/mixed; boundary=X\n\n";
    for around in ["ü\n--X\n\nx\n--X--\n", "--X\n\nx\n--X--\nü\n", "--B\n\nü\n--B--\n"] {
        let around = format!("{empty}{around}");
        assert!(text(Want::SevenBit, &around).unwrap_err().contains("outside of its parts"), "{around}");
        assert!(text(Want::SevenBit, &around.replace("mixed", "signed")).is_err());
        assert_eq!(text(Want::ShortLines, &around).unwrap(), around);
    }
    // A signed part in 7 bits is no trouble, and stays to the byte.
    let inner = "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nplain\n";
    let text_ = format!(
        "From: a@x\nContent-Type: multipart/mixed; boundary=A\n\n--A\nContent-Type: multipart/signed; boundary=B\n\n--B\n{inner}\
         --B\nContent-Type: application/pgp-signature\n\nx\n--B--\n--A\n\nü\n--A--\n"
    );
    let out = text(Want::SevenBit, &text_).unwrap();
    assert!(out.contains(inner) && out.contains("\n=C3=BC\n--A--\n"), "{out}");
}

#[test]
fn long_lines_are_folded_in_their_encoding() {
    let long = "wörd ".repeat(500);
    let plain = format!(
        "From: a@x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{long}\nshort\n"
    );
    let base = format!("From: a@x\nContent-Transfer-Encoding: base64\n\n{}\n", "QUJD".repeat(700));
    let quoted = format!(
        "From: a@x\nContent-Transfer-Encoding: quoted-printable\n\n{}=\n {}\n",
        "=C3=BCx".repeat(300),
        "y ".repeat(600)
    );
    for message in [plain, base, quoted] {
        let message = message.replace('\n', "\r\n");
        let out = convert(Want::ShortLines, message.as_bytes()).unwrap();
        let measure = Measure::read(&mut &out[..]).unwrap();
        assert!(measure.longest_line <= 76, "{}", measure.longest_line);
        assert!(leaves(&out) == leaves(message.as_bytes()));
    }
    let signed = format!("From: a@x\nContent-Type: multipart/signed; boundary=B\n\n--B\n\n{long}\n--B--\n");
    assert!(text(Want::ShortLines, &signed).unwrap_err().contains("signed"));
}

fn quoted(body: &str) -> String {
    let head = "From: a@x\nContent-Transfer-Encoding: quoted-printable\n\n";
    let out = text(Want::SevenBit, &format!("{head}{body}")).unwrap();
    out.strip_prefix(head).unwrap().to_string()
}

#[test]
fn a_bad_escape_destroys_nothing() {
    assert_eq!(
        quoted("preis=über a=b =4ö =zü =\u{e4}\n==ä= ö =\nx=4\nx=="),
        "preis=3D=C3=BCber a=3Db =3D4=C3=B6 =3Dz=C3=BC =3D=C3=A4\n=3D=3D=C3=A4=3D =C3=B6 =\nx=3D4\nx=3D="
    );
}

#[test]
fn a_footer_behind_base64_stays_apart() {
    let head = "From: a@x\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n";
    for data in ["QUJD".repeat(700), format!("{}QQ==", "QUJD".repeat(18)), "QUJD\nQUJD".to_string()] {
        for footer in
            ["\n_______\nThis list ist für dich und grüßt\nabcd\n", "\n\n-- \nlist - ü\n", "\n-ü-\n"]
        {
            let message = format!("{head}{data}{footer}").replace('\n', "\r\n");
            for want in [Want::SevenBit, Want::ShortLines] {
                let out = convert(want, message.as_bytes()).unwrap();
                assert!(want == Want::ShortLines || out.is_ascii());
                assert_eq!(leaves(&out), leaves(message.as_bytes()), "{data}{footer}");
            }
        }
    }
    // What is split does not become a boundary.
    let line = format!("{}--B{}", "QUJD".repeat(19), "x".repeat(1000));
    let head =
        "From: a@x\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Transfer-Encoding: base64\n\n";
    let out = text(Want::ShortLines, &format!("{head}{line}\n--B--\n")).unwrap();
    assert!(!out[head.len()..].replace("\n--B--", "").contains("\n-"), "{out}");
    assert!(out.replace('\n', "").contains(&line));
}

#[test]
fn a_fold_makes_no_boundary() {
    for encoding in ["8bit", "quoted-printable"] {
        for width in 70..80 {
            let line = format!("{}--BBB ", "z".repeat(width));
            let body = format!("{line}\n{line}ü\n-- \n{}x\n", line.repeat(14));
            let message = format!(
                "From: a@x\nContent-Type: multipart/mixed; boundary=BBB\n\n--BBB\n\
                 Content-Transfer-Encoding: {encoding}\n\n{body}--BBB--\n"
            )
            .replace('\n', "\r\n");
            let out = convert(Want::SevenBit, message.as_bytes()).unwrap();
            let dashed = out.windows(2).filter(|two| two == b"\n-").count();
            assert_eq!(dashed, 2, "{}", String::from_utf8_lossy(&out));
            assert!(leaves(&out) == leaves(message.as_bytes()));
        }
    }
}

#[test]
fn empty_lines_before_an_inner_message_are_skipped() {
    let inner = MIXED.replace("boundary=B", "boundary=I").replace("--B", "--I");
    for empty in ["", "\n", "\n\n\n"] {
        let message = format!(
            "From: a@x\nContent-Type: multipart/mixed; boundary=O\n\n--O\nContent-Type: message/rfc822\n\n{empty}{inner}\
             --O\n\nlast ü\n--O--\n"
        );
        let out = text(Want::SevenBit, &message).unwrap();
        assert!(
            out.contains(
                "\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nJVBERg==\n--I\n"
            ),
            "{out}"
        );
        assert!(out.contains(&format!("message/rfc822\n\n{empty}From: a@x\n")), "{out}");
        assert_eq!(leaves(out.as_bytes()).len(), 4);
        assert_eq!(leaves(out.as_bytes()), leaves(message.as_bytes()));
    }
    let alone = "From: a@x\nContent-Type: message/rfc822\n\n\n\n";
    assert_eq!(text(Want::SevenBit, alone).unwrap(), alone);
}

#[test]
fn groups_are_kept_and_ids_refused() {
    let field = |line: &str| {
        let out = text(Want::SevenBit, &format!("{line}\n\nx\n"))?;
        Ok::<_, String>(out.split_once("\n\n").unwrap().0.to_string())
    };
    assert_eq!(field("Cc: Ärzte:;").unwrap(), "Cc: =?utf-8?b?w4RyenRl?=:;");
    assert_eq!(
        field("To: c@x, \"Ä, B\": Jürgen <j@x>, b@[IPv6:::1];, team: a@x;, (c, d:) d@x").unwrap(),
        "To: c@x,\n =?utf-8?b?w4QsIEI=?=: =?utf-8?b?SsO8cmdlbg==?= <j@x>,\n b@[IPv6:::1];,\n team: a@x;,\n =?utf-8?b?YywgZDo=?= <d@x>"
    );
    let long = field(&format!("Cc: {}: a@x;", "ä".repeat(60))).unwrap();
    assert!(long.lines().all(|line| line.len() < 79), "{long}");
    assert_eq!(crate::mail::words::decode(long.as_bytes()), format!("Cc: {}: a@x;", "ä".repeat(60)));
    for line in [
        "In-Reply-To: <ü@x>",
        "References: <a@x> <ü@x>",
        "Message-ID: <ü@x>",
        "Received: from ü by x; Sat, 21 Nov 2026 10:00:00 +0000",
        "Cc: Ä: b: a@x;;",
        "Cc: Ä: ü@x;",
        "Cc: Ä: a@x",
        "Cc: (ü)",
        "Cc: \"ü <a@x>",
    ] {
        assert!(field(line).unwrap_err().contains("not ASCII"), "{line}");
    }
}

/// As mail-inject(1) says.
#[test]
fn all_that_is_refused() {
    let why = |message: &[u8]| convert(Want::SevenBit, message).unwrap_err();
    for name in
        ["Content-Type: text/plain; name", "Content-Disposition: x; y", "DKIM-Signature: a", "ARC-Seal: i"]
    {
        assert!(why(format!("{name}=ü\r\n\r\nx\r\n").as_bytes()).contains("not ASCII"), "{name}");
    }
    assert!(why(b"Subject: \xfc\r\n\r\nx\r\n").contains("not ASCII"));
    let many = |count: usize| {
        let head = "Content-Type: multipart/mixed; boundary=B\r\n\r\n";
        format!("{head}{}ü\r\n--B--\r\n", "--B\r\n\r\n".repeat(count))
    };
    assert!(convert(Want::SevenBit, many(10_000).as_bytes()).is_ok());
    assert!(why(many(10_001).as_bytes()).contains("too many parts"));
}

proptest::proptest! {
    /// However broken: what a reader sees is the same.
    #[test]
    fn broken_quoted_printable_reads_the_same(
        pieces in proptest::collection::vec("(=|==|=4|=4A|=fc|ü|ä|[ -~]|x{70}| |\t|\n|=\n|= \n)", 0..60),
    ) {
        let body = format!("{}ü\n", pieces.concat()).replace('\n', "\r\n");
        let message = format!("From: a@x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{body}");
        let out = convert(Want::SevenBit, message.as_bytes()).unwrap();
        proptest::prop_assert!(out.is_ascii());
        proptest::prop_assert!(out.split(|b| *b == b'\n').all(|line| line.len() <= 77));
        proptest::prop_assert_eq!(leaves(&out), leaves(message.as_bytes()));
    }

    /// Whatever stands in it: 7 bits and short lines come out, or a refusal; and the same content can be read.
    #[test]
    fn the_content_stays(
        parts in proptest::collection::vec(("(7bit|8bit|quoted-printable)", "[ -~äö€\t=\n.]{0,200}"), 1..4),
        cut in 1usize..50,
    ) {
        let mut message = "From: a@x\r\nContent-Type: multipart/mixed; boundary=\"-=B\"\r\n\r\n".to_string();
        for (encoding, body) in &parts {
            let body = body.replace('\n', "\r\n");
            // Blanks at the end of a line mean nothing in quoted-printable.
            let body = if encoding.starts_with('q') { body.replace(['=', ' ', '\t'], "_") } else { body };
            message += &format!("---=B\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}\r\n");
        }
        message += "---=B--\r\n";
        let mut survey = Survey::new(Want::SevenBit);
        message.as_bytes().chunks(cut).for_each(|chunk| survey.feed(chunk));
        let plan = survey.plan().unwrap();
        let mut out = Vec::new();
        Converted::new(message.as_bytes(), &plan).read_to_end(&mut out).unwrap();
        proptest::prop_assert!(out.is_ascii());
        proptest::prop_assert_eq!(leaves(&out), leaves(message.as_bytes()));
    }

    #[test]
    fn nothing_breaks_it(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        if let Ok(out) = convert(Want::SevenBit, &bytes) {
            proptest::prop_assert!(out.is_ascii());
        }
        let _ = convert(Want::ShortLines, &bytes);
    }
}
