use super::super::address::parse_list;
use super::super::outgoing::test_stamp;
use super::*;
use std::io::Read;

fn draft() -> Draft {
    Draft {
        from: parse_list("Jürgen Müller <me@by.example>").unwrap().remove(0),
        to: parse_list("you@by.example").unwrap(),
        cc: Vec::new(),
        subject: Some("Grüße — 1".into()),
        body: Some("Hello\n".into()),
        html: None,
        headers: Vec::new(),
        attachments: Vec::new(),
    }
}

#[test]
fn html_beside_or_instead_of_text() {
    let html = Some("<p>Gr\u{fc}\u{df}e an alle, die das hier lesen</p>".to_string());
    let attachments = vec![Attachment { name: "a.pdf".into(), media_type: "application/pdf".into() }];
    let parsed = |draft: &Draft| {
        let text = text_of(draft);
        let mail = mailparse::parse_mail(text.as_bytes()).unwrap();
        let kinds: Vec<String> = mail.parts().map(|part| part.ctype.mimetype.clone()).collect();
        kinds.join(" ")
    };
    let both = Draft { html: html.clone(), ..draft() };
    assert_eq!(parsed(&both), "multipart/alternative text/plain text/html");
    let alone = Draft { html: html.clone(), body: None, ..draft() };
    assert_eq!(parsed(&alone), "text/html");
    let all = Draft { html: html.clone(), attachments: attachments.clone(), ..draft() };
    assert_eq!(parsed(&all), "multipart/mixed multipart/alternative text/plain text/html application/pdf");
    let without_text = Draft { html, body: None, attachments, ..draft() };
    assert_eq!(parsed(&without_text), "multipart/mixed text/html application/pdf");
}

fn text_of(draft: &Draft) -> String {
    let mut text = Vec::new();
    for piece in compose(draft, &test_stamp()).unwrap().pieces {
        match piece {
            Piece::Bytes(bytes) => text.extend(bytes),
            Piece::Attachment(n) => text.extend(format!("[{n}]").into_bytes()),
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_text_alone() {
    let text = text_of(&draft());
    for wanted in [
        "\r\nTo: you@by.example\r\n",
        "\r\nDate: Sat, 21 Nov 2026 10:20:30 +0100\r\n",
        "Message-ID: <20261121092030.c0ffee@by.example>\r\n",
        "\r\nMIME-Version: 1.0\r\n",
        "\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHello\r\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']));
}

#[test]
fn attachments_keep_their_places_and_names() {
    let attachment = |name: &str| Attachment { name: name.into(), media_type: "application/pdf".into() };
    let names = ["hw \"1\".pdf", "Übung.pdf", &format!("{}.pdf", "ö".repeat(100))];
    let draft = Draft { attachments: names.iter().map(|name| attachment(name)).collect(), ..draft() };
    let text = text_of(&draft);
    assert!(text.contains("\r\n name=\"hw \\\"1\\\".pdf\"\r\n"), "{text}");
    assert!(text.contains("\r\n name=\"Ubung.pdf\"\r\n"), "{text}");
    assert!(text.contains("\r\n filename*=utf-8''%C3%9Cbung.pdf\r\n"), "{text}");
    assert!(text.contains("\r\n filename*1*=%"), "{text}");
    let places: Vec<usize> = ["[0]", "[1]", "[2]"].iter().map(|mark| text.find(mark).unwrap()).collect();
    assert!(places.is_sorted() && text.is_ascii(), "{text}");
}

#[test]
fn long_or_foreign_text_is_encoded() {
    for (body, encoding) in [
        ("x ".repeat(2000), "quoted-printable"),
        ("Schöne Grüße aus München an alle, die das hier lesen".into(), "quoted-printable"),
        ("привет".into(), "base64"),
        ("a\0b form".into(), "quoted-printable"),
    ] {
        let text = text_of(&Draft { body: Some(body), ..draft() });
        assert!(text.contains(&format!("Content-Transfer-Encoding: {encoding}\r\n")), "{text}");
        assert!(text.lines().all(|line| line.len() <= 998));
    }
}

#[test]
fn no_value_begins_another_field() {
    let bad = "x\r\nBcc: evil@x";
    let with = |name: &str, value: &str| Draft { headers: vec![(name.into(), value.into())], ..draft() };
    let mut named = draft();
    named.to[0].name = Some(bad.into());
    for draft in [
        Draft { subject: Some(bad.into()), ..draft() },
        Draft { subject: Some("a\0b".into()), ..draft() },
        named,
        with("X-Tag", bad),
        with("X Tag", "v"),
        with("X\r\nBcc", "v"),
        with("", "v"),
        with("Bcc", "evil@x"),
        with("Content-Type", "text/html"),
        with("Message-ID", "none"),
        with("X-Long", &"x".repeat(2000)),
    ] {
        assert_eq!(compose(&draft, &test_stamp()).map(|_| ()).map_err(|error| error.status()), Err(64));
    }
}

#[test]
fn further_fields_may_repeat() {
    let fields = [("X-Tag", "one"), ("X-Tag", "zwölf"), ("Message-ID", "<own@x>")];
    let headers = fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let text = text_of(&Draft { headers, ..draft() });
    assert!(text.contains("X-Tag: one\r\nX-Tag: =?utf-8?"), "{text}");
    assert_eq!(text.matches("Message-ID: <own@x>\r\n").count(), 1, "{text}");
}

#[test]
fn base64_in_lines() {
    for len in [0, 1, 56, 57, 58, 114, 57 * 512, 57 * 512 + 1, 100_000] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let mut text = Vec::new();
        Base64Lines::new(&bytes[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text.len() as u64, base64_len(len as u64), "{len}");
        let text = String::from_utf8(text).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= 76) && !text.ends_with('\n'));
        let back = base64_simd::STANDARD.decode_to_vec(text.replace("\r\n", "").as_bytes()).unwrap();
        assert_eq!(back, bytes);
    }
}

proptest::proptest! {
    /// Whatever stands in a subject, a name, a field or a file's name: no line of the header begins but with our own fields.
    #[test]
    fn no_value_begins_a_field(
        value in "[a-zA-Z: \r\n\t\0\u{e9}\u{1f600}=?<>\"\\\\,;-]{0,120}",
        place in 0..4,
    ) {
        let mut draft = draft();
        match place {
            0 => draft.subject = Some(value),
            1 => draft.from.name = Some(value),
            2 => draft.headers = vec![("X-Mine".into(), value)],
            _ => draft.attachments = vec![Attachment { name: value, media_type: "application/pdf".into() }],
        }
        let composed = match compose(&draft, &test_stamp()) {
            Ok(composed) => composed,
            Err(error) => {
                proptest::prop_assert_eq!(error.status(), 64);
                return Ok(());
            }
        };
        let Some(Piece::Bytes(first)) = composed.pieces.first() else { panic!("it begins with its header") };
        let text = String::from_utf8(first.clone()).unwrap();
        proptest::prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{:?}", text);
        let known = ["from", "to", "subject", "date", "message-id", "mime-version", "content-type", "x-mine",
            "content-transfer-encoding", "content-disposition"];
        let heads = text.split("\r\n\r\n").take(if place == 3 { 9 } else { 1 });
        for line in heads.flat_map(|head| head.split("\r\n")).filter(|line| !line.starts_with([' ', '\t'])) {
            let name = line.split(':').next().unwrap().to_ascii_lowercase();
            let is_body = line.is_empty() || line.starts_with("--") || line.starts_with("Hello");
            proptest::prop_assert!(is_body || known.contains(&name.as_str()), "{:?} in {:?}", line, text);
        }
    }
}
