//! Any bytes, any name, any attachment: the doors of tests/fuzz for a short while, and encode → dissect.

#[path = "../fuzz/entry.rs"]
mod entry;

use super::base64;
use mailloop::mail::decode::{Encoding, decode};
use mailloop::mail::name::SafeName;
use mailloop::mail::part::{Limits, Tree};
use proptest::prelude::*;

/// Bytes that look like mail more often than chance would have it.
fn mail() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        Just(b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec()),
        Just(b"Content-Type: message/rfc822\n".to_vec()),
        Just(b"Content-Type: application/ms-tnef\n".to_vec()),
        Just(b"Content-Type: application/pkcs7-mime\n".to_vec()),
        Just(b"Content-Transfer-Encoding: base64\n".to_vec()),
        Just(b"Content-Transfer-Encoding: x-uuencode\n".to_vec()),
        Just(b"Content-Disposition: attachment; filename*0*=utf-8''a; filename=\"=?utf-8?Q?b?=\"\n".to_vec()),
        Just(b"From: a@b\n".to_vec()),
        Just(b"From a@b Sat Nov 21 10:00:00 2026\n".to_vec()),
        Just(b"begin 644 x\n#0V%T\nend\n".to_vec()),
        Just(b"begin ".to_vec()),
        Just(b"eJ8+IgEA\n".to_vec()),
        Just(b"--b\r\n".to_vec()),
        Just(b"--b--\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(words, 0..30).prop_map(|pieces| pieces.concat())
}

fn quoted(bytes: &[u8]) -> String {
    let text: Vec<String> = bytes.iter().map(|byte| format!("={byte:02X}")).collect();
    text.chunks(24).map(|line| line.concat() + "=\r\n").collect()
}

proptest! {
    #[test]
    fn no_message_breaks_us(data in mail()) {
        entry::message(&data);
        entry::tnef(&data);
        entry::base64(&data);
        entry::filename(&data);
    }

    #[test]
    fn no_bytes_break_us(data: Vec<u8>) {
        entry::message(&data);
        entry::tnef(&data);
        entry::base64(&data);
        entry::filename(&data);
    }

    #[test]
    fn any_name_creates_one_file(name in prop_oneof![".*", "[./\\\\~ \u{202e}a-]*"], extension in "[a-z]{0,5}") {
        let temp = tempfile::tempdir().unwrap();
        let safe = SafeName::new(Some(&name), Some(&extension).filter(|e| !e.is_empty()).map(|e| e.as_str()));
        std::fs::write(temp.path().join(&safe), "x").unwrap();
        let found: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(found, [std::ffi::OsString::from(safe.as_str())]);
    }

    #[test]
    fn what_was_encoded_comes_out(
        files in proptest::collection::vec((any::<Vec<u8>>(), "[a-z\u{e9}\u{4f60} ]{0,20}x", any::<bool>()), 1..5),
        crlf: bool,
    ) {
        let mut text = "Content-Type: multipart/mixed; boundary=\"=_b\"\n\n".to_string();
        for (bytes, name, plain) in &files {
            let (label, body) = if *plain { ("base64", base64(bytes)) } else { ("quoted-printable", quoted(bytes)) };
            let name: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            text += &format!("--=_b\nContent-Type: a/b\nContent-Disposition: attachment; filename*=utf-8''{name}\n\
                Content-Transfer-Encoding: {label}\n\n{body}\n");
        }
        text += "--=_b--\n";
        let text = if crlf { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text };
        let tree = Tree::parse(text.as_bytes(), &Limits::default());
        prop_assert_eq!(tree.parts.len(), files.len());
        for (part, (bytes, name, _)) in tree.parts.iter().zip(&files) {
            let mut out = Vec::new();
            let decoded = decode(&part.encoding, tree.body(part), &mut out).unwrap();
            prop_assert_eq!(&out, bytes);
            prop_assert_eq!(&decoded.notes, &Vec::<String>::new());
            prop_assert_eq!(tree.name(part).map(|sent| sent.text), Some(name.trim().to_string()));
            prop_assert!(part.encoding != Encoding::Identity);
        }
    }
}
