use super::*;
use proptest::prelude::*;

fn list(message: &str) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for ends in ["\n", "\r\n"] {
        let message = message.replace('\n', ends);
        let tree = Tree::parse(message.as_bytes(), &Limits::default());
        let row = |part: &Part| {
            let body = String::from_utf8_lossy(tree.body(part)).replace("\r\n", "\n");
            (part.number.clone(), part.said.clone(), body)
        };
        all.push(tree.parts.iter().map(row).collect::<Vec<_>>());
    }
    assert_eq!(all[0], all[1], "line ends must not matter");
    all.pop().unwrap()
}

fn row(number: &str, said: &str, body: &str) -> (String, String, String) {
    (number.into(), said.into(), body.into())
}

#[test]
fn one_leaf() {
    assert_eq!(list("Subject: x\n\nhello\n"), [row("1", "text/plain", "hello\n")]);
    assert_eq!(list("\n\nFrom me\nSubject: x\n\nhello\n"), [row("1", "text/plain", "hello\n")]);
    assert_eq!(list(""), [row("1", "text/plain", "")]);
}

#[test]
fn multiparts_within() {
    let message = "Content-Type: multipart/mixed; boundary=a\n\npreamble\n--a\n\none\n--a  \n\
        Content-Type: multipart/alternative; boundary=\"a-b\"\n\n--a-b\n\ntwo\n--a-b\nContent-Type: text/html\n\n\
        three\n--a-b--\nepilogue\n--a\nContent-Type: image/png\n\nfour\n--a--\nend\n--a\nno\n";
    let expected = [
        row("1", "text/plain", "one"),
        row("2.1", "text/plain", "two"),
        row("2.2", "text/html", "three"),
        row("3", "image/png", "four"),
    ];
    assert_eq!(list(message), expected);
    // Without the inner or outer last boundary.
    assert_eq!(list(&message.replace("--a-b--\nepilogue\n", "")), expected);
}

#[test]
fn messages_within() {
    let inner = "Subject: in\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nx\n--i--\n";
    let message = format!(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n\n{inner}\n--o\n\
         Content-Type: message/rfc822\n\nSubject: single\n\ny\n--o--\n"
    );
    let list = list(&message);
    let numbers: Vec<_> = list.iter().map(|(number, said, _)| (number.as_str(), said.as_str())).collect();
    let expected =
        [("1", "message/rfc822"), ("1.1", "text/plain"), ("2", "message/rfc822"), ("2.1", "text/plain")];
    assert_eq!(numbers, expected);
    assert_eq!((list[0].2.as_str(), list[1].2.as_str(), list[3].2.as_str()), (inner, "x", "y"));
}

#[test]
fn an_encoded_message_is_opened() {
    let inner = "Content-Type: multipart/mixed; boundary=i\n\n--i\nContent-Type: a/b\n\nx\n--i--\n";
    let inner = base64_simd::STANDARD.encode_to_string(inner);
    let message = format!("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{inner}\n");
    let list = list(&message);
    assert_eq!((list[0].0.as_str(), list[1].clone()), ("1", row("1.1", "a/b", "x")));
}

#[test]
fn wrong_or_missing_boundaries() {
    let body = "--x\nContent-Type: a/b\n\none\n--x\nContent-Type: c/d\n\ntwo\n--x--\n";
    let expected = [row("1", "a/b", "one"), row("2", "c/d", "two")];
    assert_eq!(list(&format!("Content-Type: multipart/mixed\n\n{body}")), expected);
    assert_eq!(list(&format!("Content-Type: multipart/mixed; boundary=y\n\n{body}")), expected);
    let none = list("Content-Type: multipart/mixed; boundary=y\n\nnothing\n");
    assert_eq!(none, [row("1", "multipart/mixed", "nothing\n")]);
}

#[test]
fn digests_default_to_messages() {
    let list = list("Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: a\n\nhi\n--x--\n");
    assert_eq!(list, [row("1", "message/rfc822", "Subject: a\n\nhi"), row("1.1", "text/plain", "hi")]);
}

#[test]
fn lone_carriage_returns() {
    let tree = Tree::parse(b"Content-Type: a/b\r\rbody", &Limits::default());
    assert_eq!((tree.parts[0].said.as_str(), tree.body(&tree.parts[0])), ("a/b", &b"body"[..]));
}

#[test]
fn limits_keep_what_was_found() {
    let deep: String =
        (0..10_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    let tree = Tree::parse(deep.as_bytes(), &Limits::default());
    assert!(tree.cut.is_some());
    let many = format!(
        "Content-Type: multipart/mixed; boundary=x\n\n{}",
        "--x\nContent-Type: a/b\n\n.\n".repeat(20_000)
    );
    let tree = Tree::parse(many.as_bytes(), &Limits::default());
    assert_eq!((tree.parts.len(), tree.cut.is_some()), (10_000, true));
    let inside = "Content-Type: message/rfc822\n\n".repeat(500);
    assert!(Tree::parse(inside.as_bytes(), &Limits::default()).cut.is_some());
    let long = format!("X: {}\nContent-Type: a/b\n\nbody", "y".repeat(2 << 20));
    let tree = Tree::parse(long.as_bytes(), &Limits::default());
    assert_eq!((tree.parts.len(), tree.body(&tree.parts[0])), (1, &b"body"[..]));
}

#[test]
fn reading_again_and_again_ends_and_is_said() {
    let part = |n| format!("--X{n}\nContent-Type: multipart/mixed; boundary=Q{n}\n\n");
    let parts: String = (0..20).map(part).collect();
    let text = format!("Content-Type: multipart/mixed; boundary=Q\n\n{parts}{}\n", "x".repeat(300_000));
    let tree = Tree::parse(text.as_bytes(), &Limits::default());
    assert_eq!(tree.cut.as_deref(), Some("too much to decode or to read a second time"));
}

proptest! {
    #[test]
    fn nothing_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=b\r\n".to_string()),
        Just("Content-Type: message/rfc822\n".to_string()),
        Just("Content-Transfer-Encoding: base64\n".to_string()),
        Just("--b\r\n".to_string()), Just("--b--\n".to_string()), Just("--c\nContent-Type: a/b\n".to_string()),
        Just("\r\n".to_string()), Just("\n".to_string()), Just("\r".to_string()), Just("From \n".to_string()),
        ".*",
    ], 0..40)) {
        let message = pieces.concat();
        let tree = Tree::parse(message.as_bytes(), &Limits::default());
        prop_assert!(!tree.parts.is_empty());
        for part in &tree.parts {
            tree.name(part);
            tree.body(part);
            part.is_attachment(false);
        }
    }

    #[test]
    fn no_bytes_panic(message: Vec<u8>) {
        Tree::parse(&message, &Limits::default());
        crate::mail::summary::Summary::of(&message);
        crate::mail::summary::outer_from(&message);
    }
}
