//! S/MIME's outer shell (CMS, RFC 5652): the content of an opaque signed message, and what else such bytes are.
//!
//! ```text
//! ContentInfo      ::= SEQUENCE { contentType OID, content [0] EXPLICIT ANY }
//! SignedData       ::= SEQUENCE { version INTEGER, digestAlgorithms SET, encapContentInfo, … }
//! encapContentInfo ::= SEQUENCE { eContentType OID, eContent [0] EXPLICIT OCTET STRING OPTIONAL }
//! ```
//!
//! BER, not only DER: Outlook and OpenSSL write indefinite lengths and octet strings in pieces. No signature is
//! checked here; the content is taken out, nothing is said of who signed it.

use std::ops::Range;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const OCTETS_IN_PIECES: u8 = 0x24;
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.
const PKCS7: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
/// 1.2.840.113549.1.9.16.1.
const SMIME_CT: [u8; 10] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01];
/// Octet strings within octet strings deeper than this are not read.
const DEEPEST: usize = 16;
/// Elements in a row; a bomb has more.
const MOST: usize = 1 << 20;

/// What CMS bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Cms {
    /// Signed, with its content inside: where the pieces of the content lie.
    Signed(Vec<Range<usize>>),
    /// Signed, but the content lies elsewhere (a detached signature), or nothing but certificates.
    Detached,
    /// Encrypted: nobody without the key can open it.
    Encrypted,
    /// Compressed (RFC 3274).
    Compressed,
    /// Of another kind.
    Other,
}

/// Reads CMS bytes; `None` if they are something else, or damaged.
pub fn read(bytes: &[u8]) -> Option<Cms> {
    let mut outer = Scan { bytes, at: 0, end: bytes.len() };
    let mut info = outer.enter(SEQUENCE)?;
    let kind = info.primitive(OID)?;
    let kind = &bytes[kind];
    match kind.split_last()? {
        (2, arc) if arc == PKCS7 => {}
        (3 | 4 | 6, arc) if arc == PKCS7 => return Some(Cms::Encrypted),
        (23, arc) if arc == SMIME_CT => return Some(Cms::Encrypted),
        (9, arc) if arc == SMIME_CT => return Some(Cms::Compressed),
        _ => return Some(Cms::Other),
    }
    let mut signed = info.enter(CONTEXT_0)?.enter(SEQUENCE)?;
    signed.primitive(INTEGER)?;
    signed.skip(SET)?;
    let mut content = signed.enter(SEQUENCE)?;
    content.primitive(OID)?;
    let Some(mut content) = content.enter(CONTEXT_0) else { return Some(Cms::Detached) };
    let mut pieces = Vec::new();
    content.octets(&mut pieces, 0);
    Some(Cms::Signed(pieces))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// One element's tag and where its contents lie; without an end where the length is indefinite.
struct Element {
    tag: u8,
    start: usize,
    end: Option<usize>,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<Element> {
        let head = &self.bytes[self.at..self.end];
        let (&tag, rest) = head.split_first()?;
        // Long tags do not occur in what we read.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let start = self.at + 2;
        let (start, length) = match first {
            0x80 => return Some(Element { tag, start, end: None }),
            0..0x80 => (start, usize::from(first)),
            _ => {
                let count = usize::from(first & 0x7f);
                let digits = rest.get(..count).filter(|_| count <= 8)?;
                (
                    start + count,
                    digits
                        .iter()
                        .try_fold(0usize, |n, d| n.checked_mul(256)?.checked_add(usize::from(*d)))?,
                )
            }
        };
        // What was cut short goes as far as there is something.
        Some(Element { tag, start, end: Some(start.saturating_add(length).min(self.end)) })
    }

    /// The inside of the next element, if it has this tag; we go on after it.
    fn enter(&mut self, tag: u8) -> Option<Scan<'a>> {
        let element = self.peek().filter(|element| element.tag == tag)?;
        let end = element.end.unwrap_or(self.end);
        // After an indefinite one we only ever read on inside.
        self.at = end;
        Some(Scan { bytes: self.bytes, at: element.start.min(end), end })
    }

    fn primitive(&mut self, tag: u8) -> Option<Range<usize>> {
        let element = self.peek().filter(|element| element.tag == tag)?;
        let end = element.end?;
        self.at = end;
        Some(element.start.min(end)..end)
    }

    /// Passes over an element, which may be of indefinite length with others in it.
    fn skip(&mut self, tag: u8) -> Option<()> {
        let element = self.peek().filter(|element| element.tag == tag)?;
        if let Some(end) = element.end {
            self.at = end;
            return Some(());
        }
        self.at = element.start;
        let mut open = 1;
        for _ in 0..MOST {
            let element = self.peek()?;
            match (element.tag, element.end) {
                (0, _) => {
                    self.at = element.start;
                    open -= 1;
                    if open == 0 {
                        return Some(());
                    }
                }
                (_, Some(end)) => self.at = end,
                (_, None) => {
                    self.at = element.start;
                    open += 1;
                }
            }
        }
        None
    }

    /// Where the octets of an octet string lie, in one piece or many; gives false at the end of what is readable.
    fn octets(&mut self, pieces: &mut Vec<Range<usize>>, depth: usize) -> bool {
        let Some(element) = self.peek() else { return false };
        match (element.tag, element.end) {
            (OCTETS, Some(end)) if pieces.len() < MOST => {
                pieces.push(element.start.min(end)..end);
                self.at = end;
                true
            }
            (OCTETS_IN_PIECES, end) if depth < DEEPEST => {
                let mut inner = Scan { bytes: self.bytes, at: element.start, end: end.unwrap_or(self.end) };
                inner.at = inner.at.min(inner.end);
                while inner.octets(pieces, depth + 1) {}
                self.at = match (end, inner.peek()) {
                    (Some(end), _) => end,
                    (None, Some(mark)) if mark.tag == 0 => mark.start,
                    (None, _) => inner.at,
                };
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, inside: &[u8]) -> Vec<u8> {
        let length = u32::try_from(inside.len()).unwrap().to_be_bytes();
        [&[tag, 0x84][..], &length, inside].concat()
    }

    fn endless(tag: u8, inside: &[u8]) -> Vec<u8> {
        [&[tag, 0x80][..], inside, &[0, 0]].concat()
    }

    fn oid(last: u8) -> Vec<u8> {
        element(OID, &[&PKCS7[..], &[last]].concat())
    }

    type Wrap = fn(u8, &[u8]) -> Vec<u8>;

    fn signed(wrap: Wrap, content: &[u8]) -> Vec<u8> {
        let content = wrap(SEQUENCE, &[oid(1), wrap(CONTEXT_0, content)].concat());
        let data = wrap(SEQUENCE, &[element(INTEGER, &[1]), wrap(SET, &[]), content].concat());
        wrap(SEQUENCE, &[oid(2), wrap(CONTEXT_0, &data)].concat())
    }

    fn content(bytes: &[u8]) -> String {
        let Some(Cms::Signed(pieces)) = read(bytes) else { panic!("{:?}", read(bytes)) };
        pieces.into_iter().map(|piece| String::from_utf8_lossy(&bytes[piece]).into_owned()).collect()
    }

    #[test]
    fn whole_and_in_pieces() {
        let whole = element(OCTETS, b"hello");
        let pieces = endless(OCTETS_IN_PIECES, &[element(OCTETS, b"he"), element(OCTETS, b"llo")].concat());
        for wrap in [element as Wrap, endless as Wrap] {
            assert_eq!(content(&signed(wrap, &whole)), "hello");
            assert_eq!(content(&signed(wrap, &pieces)), "hello");
        }
        let cut = signed(element, &whole);
        assert_eq!(content(&cut[..cut.len() - 2]), "hel");
    }

    #[test]
    fn what_is_no_content() {
        assert_eq!(read(&element(SEQUENCE, &oid(3))), Some(Cms::Encrypted));
        let without = element(SEQUENCE, &oid(1));
        let data = element(SEQUENCE, &[element(INTEGER, &[1]), element(SET, &[]), without].concat());
        assert_eq!(
            read(&element(SEQUENCE, &[oid(2), element(CONTEXT_0, &data)].concat())),
            Some(Cms::Detached)
        );
        assert_eq!(read(b"0"), None);
        assert_eq!(read(&element(SEQUENCE, &oid(9))), Some(Cms::Other));
    }

    proptest! {
        #[test]
        fn nothing_panics(data: Vec<u8>) {
            read(&data);
            read(&signed(element, &data));
            read(&signed(endless, &data));
        }
    }
}
