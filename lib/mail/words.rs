//! Text in headers: encoded words (RFC 2047) and 8-bit text, in time linear in its length.
//!
//! mailparse's own decoder needs cubic time on some headers (40 kB cost 39 s) and decodes each word alone, which
//! breaks characters that a sender split over two words; so words are decoded here.

use std::borrow::Cow;

use charset::Charset;

/// The longest charset label that is looked at; real ones are shorter than 20.
const LONGEST_LABEL: usize = 64;

/// One piece of a header value.
enum Piece<'a> {
    Plain(&'a [u8]),
    Word { charset: &'a [u8], octets: Vec<u8> },
}

/// Decodes a header value for people: unfolded, encoded words decoded, 8-bit text taken as UTF-8 or legacy.
///
/// Blanks between two encoded words vanish (RFC 2047 section 6.2), and neighbours of one charset are joined as
/// octets before they become text.
pub fn decode(value: &[u8]) -> String {
    let unfolded = unfold(value);
    let pieces = split(&unfolded);
    let mut out = String::with_capacity(unfolded.len());
    let mut run: Option<(Vec<u8>, Vec<u8>)> = None;
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Plain(text) if is_gap(text) && is_between_words(&pieces, at) => {}
            Piece::Plain(text) => {
                end_run(&mut run, &mut out);
                out.push_str(&guess(text));
            }
            Piece::Word { charset, octets } => match &mut run {
                Some((label, joined)) if label.eq_ignore_ascii_case(charset) => joined.extend(octets),
                _ => {
                    end_run(&mut run, &mut out);
                    run = Some((charset.to_vec(), octets.clone()));
                }
            },
        }
    }
    end_run(&mut run, &mut out);
    out
}

/// The value with each encoded word replaced by a plain `x`: what an address parser may see, so that a comma or
/// a bracket inside a word cannot become structure.
pub fn blank(value: &[u8]) -> String {
    let unfolded = unfold(value);
    let mut out = String::with_capacity(unfolded.len());
    for piece in split(&unfolded) {
        match piece {
            Piece::Plain(text) => out.push_str(&guess(text)),
            Piece::Word { .. } => out.push('x'),
        }
    }
    out
}

/// Octets in a named charset as text. An unknown label is guessed at, a bad sequence becomes U+FFFD.
pub fn in_charset(label: &[u8], octets: &[u8]) -> String {
    match find_charset(label) {
        Some(charset) => charset.decode_without_bom_handling(octets).0.into_owned(),
        None => guess(octets).into_owned(),
    }
}

/// 8-bit text without a charset: UTF-8 if it is that, ISO-2022-JP by its escapes, else Windows-1252.
pub fn guess(octets: &[u8]) -> Cow<'_, str> {
    // QUIRK: Japanese mailers put raw ISO-2022-JP (seven bits) into headers.
    if memchr::memmem::find(octets, b"\x1b$").is_some()
        && let Some(charset) = Charset::for_label(b"iso-2022-jp")
    {
        return Cow::Owned(charset.decode_without_bom_handling(octets).0.into_owned());
    }
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => match Charset::for_label(b"windows-1252") {
            Some(legacy) => Cow::Owned(legacy.decode_without_bom_handling(octets).0.into_owned()),
            None => String::from_utf8_lossy(octets),
        },
    }
}

fn find_charset(label: &[u8]) -> Option<Charset> {
    let label = label.trim_ascii();
    Charset::for_label_no_replacement(label).or_else(|| {
        // QUIRK: code page names as Windows mailers write them.
        let known: &[u8] = match label.to_ascii_lowercase().as_slice() {
            b"cp932" => b"shift_jis",
            b"cp936" => b"gbk",
            b"cp949" => b"euc-kr",
            b"cp950" => b"big5",
            _ => return None,
        };
        Charset::for_label(known)
    })
}

/// Line ends go, the blanks after them stay (RFC 5322 section 2.2.3).
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
}

fn end_run(run: &mut Option<(Vec<u8>, Vec<u8>)>, out: &mut String) {
    if let Some((label, octets)) = run.take() {
        out.push_str(&in_charset(&label, &octets));
    }
}

fn is_gap(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

fn is_between_words(pieces: &[Piece], at: usize) -> bool {
    let is_word = |piece: Option<&Piece>| matches!(piece, Some(Piece::Word { .. }));
    at > 0 && is_word(pieces.get(at - 1)) && is_word(pieces.get(at + 1))
}

/// `encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="` (RFC 2047, RFC 2231 section 5).
fn split(value: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut ends = Ends { value, next: 0 };
    let mut plain = 0;
    let mut at = 0;
    while let Some(start) = memchr::memmem::find(&value[at..], b"=?").map(|found| at + found) {
        match word(value, start, &mut ends) {
            Some((piece, end)) => {
                if plain < start {
                    pieces.push(Piece::Plain(&value[plain..start]));
                }
                pieces.push(piece);
                plain = end;
                at = end;
            }
            None => at = start + 2,
        }
    }
    if plain < value.len() {
        pieces.push(Piece::Plain(&value[plain..]));
    }
    pieces
}

/// Where the next `?=` is; remembered, so that a flood of `=?` without any end costs one search.
struct Ends<'a> {
    value: &'a [u8],
    next: usize,
}

impl Ends<'_> {
    fn from(&mut self, at: usize) -> Option<usize> {
        if self.next < at {
            let found = memchr::memmem::find(&self.value[at..], b"?=");
            self.next = found.map_or(usize::MAX, |found| at + found);
        }
        (self.next != usize::MAX).then_some(self.next)
    }
}

fn word<'a>(value: &'a [u8], start: usize, ends: &mut Ends) -> Option<(Piece<'a>, usize)> {
    let rest = &value[start + 2..];
    let label_end = rest.iter().take(LONGEST_LABEL + 1).position(|b| *b == b'?')?;
    let label = &rest[..label_end];
    if label.is_empty() || label.iter().any(|b| b.is_ascii_whitespace()) {
        return None;
    }
    let (kind, mark) = (*rest.get(label_end + 1)?, *rest.get(label_end + 2)?);
    if mark != b'?' {
        return None;
    }
    let text_start = start + 2 + label_end + 3;
    let end = ends.from(text_start)?;
    // QUIRK: blanks inside a word are forbidden, yet Q words with raw blanks are common; they are kept.
    let text = &value[text_start..end];
    let octets = match kind {
        b'B' | b'b' => base64(text),
        b'Q' | b'q' => quoted(text),
        _ => return None,
    };
    let charset = label.split(|b| *b == b'*').next().unwrap_or(label);
    Some((Piece::Word { charset, octets }, end + 2))
}

/// `B` words: foreign bytes skipped, padding not asked for.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let _ = super::decode::decode(&super::decode::Encoding::Base64, text, &mut out);
    out
}

/// `Q` words: `_` is a blank, `=XX` an octet.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'_' => out.push(b' '),
            b'=' => match tail {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex(*high) << 4 | hex(*low));
                    rest = after;
                }
                _ => out.push(b'='),
            },
            other => out.push(other),
        }
    }
    out
}

/// The value of one hexadecimal digit; 0 for anything else.
pub fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_split_over_two_words_stays_one() {
        assert_eq!(decode(b"=?utf-8?Q?r=C3?= =?UTF-8?Q?=A9sum?=\r\n =?utf-8?B?w6k=?="), "r\u{e9}sum\u{e9}");
    }

    #[test]
    fn words_touching_text_and_blanks_inside() {
        assert_eq!(decode(b"=?gb18030?B?xOO6ww==?=.pdf"), "\u{4f60}\u{597d}.pdf");
        assert_eq!(decode(b"=?utf-8?Q?a b?= c =?x"), "a b c =?x");
        assert_eq!(decode(b"=?iso-8859-1*fr?q?caf=E9?="), "caf\u{e9}");
        assert_eq!(decode(b"=?bogus?q?caf=E9_x?="), "caf\u{e9} x");
    }

    #[test]
    fn raw_8_bit_is_utf8_or_legacy() {
        assert_eq!(decode("r\u{e9}sum\u{e9}".as_bytes()), "r\u{e9}sum\u{e9}");
        assert_eq!(decode(b"r\xe9sum\xe9"), "r\u{e9}sum\u{e9}");
        assert_eq!(decode(b"\x1b$B$3$s\x1b(B"), "\u{3053}\u{3093}");
    }

    #[test]
    fn a_comma_in_a_word_is_no_structure() {
        assert_eq!(blank(b"=?utf-8?Q?a,_b@c?= <d@e>"), "x <d@e>");
    }
}
