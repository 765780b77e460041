//! Names of mailboxes: UTF-8 for people, modified UTF-7 (RFC 3501 section 5.1.3) on disk, and on the wire where the
//! server speaks IMAP4rev1.
//!
//! On disk a mailbox below INBOX is a Maildir++ directory `.a.b`; whatever could be taken for a path or a level
//! (`.`, `/`, a control character) is written in the UTF-7 way, so that `a.b` and `a/b` stay two and none leaves
//! the Maildir.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The name as the server wants it.
pub fn to_wire(name: &str) -> String {
    encode(name, |c| matches!(c, ' '..='~'))
}

/// The name as people read it; what is no modified UTF-7 is taken as it stands.
pub fn from_wire(name: &str) -> String {
    decode(name).unwrap_or_else(|| name.to_string())
}

/// True for INBOX, in whatever case (RFC 9051 section 5.1).
pub fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

/// The directory of a mailbox inside its Maildir: `None` for INBOX, which is the Maildir itself; `Some(".a.b")`.
///
/// An error says why the name cannot be one: a level is empty, or too long for a file name.
pub fn directory(name: &str, delimiter: Option<&str>) -> Result<Option<String>, String> {
    if is_inbox(name) {
        return Ok(None);
    }
    let levels: Vec<&str> = match delimiter {
        Some(delimiter) if !delimiter.is_empty() => name.split(delimiter).collect(),
        _ => vec![name],
    };
    let mut directory = String::new();
    for level in levels {
        if level.is_empty() {
            return Err(format!("the mailbox name {name:?} has an empty level"));
        }
        directory.push('.');
        directory.push_str(&encode(level, |c| matches!(c, ' '..='~') && c != '.' && c != '/'));
    }
    if directory.len() > 255 {
        return Err(format!("the mailbox name {name:?} is too long for a directory"));
    }
    Ok(Some(directory))
}

fn encode(name: &str, plain: impl Fn(char) -> bool) -> String {
    let (mut out, mut held) = (String::new(), Vec::<u16>::new());
    for c in name.chars() {
        if plain(c) {
            close(&mut out, &mut held);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            held.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    close(&mut out, &mut held);
    out
}

fn close(out: &mut String, held: &mut Vec<u16>) {
    if held.is_empty() {
        return;
    }
    out.push('&');
    let bytes: Vec<u8> = held.drain(..).flat_map(u16::to_be_bytes).collect();
    for group in bytes.chunks(3) {
        let mut bits = [0u8; 3];
        bits[..group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for digit in 0..=group.len() {
            out.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out.push('-');
}

fn decode(name: &str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (word, after) = after.split_once('-')?;
        rest = after;
        if word.is_empty() {
            out.push('&');
            continue;
        }
        let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
        for digit in word.bytes() {
            let value = DIGITS.iter().position(|d| *d == digit)? as u32;
            bits = bits << 6 | value;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count & 255) as u8);
            }
        }
        let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        for c in char::decode_utf16(units) {
            out.push(c.ok()?);
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(to_wire("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(from_wire("~peter/mail/&U,BTFw-/&ZeVnLIqe-"), "~peter/mail/台北/日本語");
        assert_eq!(to_wire("a&b"), "a&-b");
        assert_eq!(from_wire("50& off"), "50& off");
    }

    #[test]
    fn no_name_leaves_the_maildir() {
        assert_eq!(directory("inbox", Some("/")), Ok(None));
        assert_eq!(directory("a/b", Some("/")), Ok(Some(".a.b".into())));
        assert_eq!(directory("a.b", Some("/")), Ok(Some(".a&AC4-b".into())));
        assert_eq!(directory("../x", Some("/")), Ok(Some(".&AC4ALg-.x".into())));
        assert_eq!(directory("../x", Some(".")).unwrap_err(), "the mailbox name \"../x\" has an empty level");
        assert!(directory("a//b", Some("/")).is_err());
        assert!(directory(&"x".repeat(300), None).is_err());
    }

    proptest! {
        #[test]
        fn there_and_back(name in "\\PC*") {
            prop_assert_eq!(from_wire(&to_wire(&name)), name);
        }

        #[test]
        fn one_plain_component(name in ".{1,40}", delimiter in "[/.\\\\]") {
            if let Ok(Some(directory)) = directory(&name, Some(&delimiter)) {
                prop_assert!(directory.starts_with('.') && directory.len() > 1);
                prop_assert!(!directory.contains('/') && !directory.contains(".."));
                prop_assert!(directory.bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
        }
    }
}
