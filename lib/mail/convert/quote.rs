//! Transfer encodings, piece by piece (RFC 2045 section 6): lines stay lines, none is longer than 76.

/// A line of an encoded part, with the `=` that ends it softly.
const WIDTH: usize = 76;

/// More blanks in a row are text, whatever follows.
const MOST_BLANKS: usize = 64 * 1024;

/// One part's encoder; `quote`, `requote` or `rewrap`, not mixed.
#[derive(Default)]
pub(super) struct Encoder {
    column: usize,
    /// Blanks that may end the line; or the beginning of `=XX`, or `=` and blanks, which may be a soft end.
    held: Vec<u8>,
}

impl Encoder {
    /// Text with CRLF line ends as quoted-printable.
    pub(super) fn quote(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    self.keep_blanks(out);
                    self.line_end(*byte, out);
                }
                b' ' | b'\t' => self.hold(*byte, out),
                33..=60 | 62..=126 => self.text(*byte, out),
                _ => self.escape(*byte, out),
            }
        }
    }

    /// What is quoted-printable already, but for lines and bytes that have no place in it.
    pub(super) fn requote(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            if self.held.first() == Some(&b'=') && self.goes_on(*byte, out) {
                continue;
            }
            match byte {
                b'\r' | b'\n' => {
                    // RFC 2045 section 6.7 rule 3: blanks at the end of a line were put there on the way.
                    self.held.clear();
                    self.line_end(*byte, out);
                }
                b' ' | b'\t' => self.hold(*byte, out),
                b'=' => {
                    self.flush(out);
                    self.held.push(*byte);
                }
                128.. => self.escape(*byte, out),
                _ => self.text(*byte, out),
            }
        }
    }

    /// True if the byte belongs to the `=` in hand; else that is spelled out, as every reader takes it.
    fn goes_on(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        match (&self.held[1..], byte) {
            (_, b'\r' | b'\n') if !self.held[1..].first().is_some_and(u8::is_ascii_hexdigit) => {
                // Its own soft end.
                self.held.clear();
                out.push(b'=');
                self.line_end(byte, out);
                true
            }
            ([], _) if byte.is_ascii_hexdigit() => {
                self.held.push(byte);
                true
            }
            ([high], _) if high.is_ascii_hexdigit() && byte.is_ascii_hexdigit() => {
                let token = [b'=', *high, byte];
                self.held.clear();
                self.put(&token, out);
                true
            }
            ([] | [b' ' | b'\t', ..], b' ' | b'\t') if self.held.len() < MOST_BLANKS => {
                self.held.push(byte);
                true
            }
            _ => {
                let rest = self.held.split_off(1);
                self.held.clear();
                self.put(&hex(b'='), out);
                match rest.first() {
                    Some(b' ' | b'\t') => self.held = rest,
                    _ => rest.iter().for_each(|digit| self.put(&[*digit], out)),
                }
                false
            }
        }
    }

    /// Ends what `quote` or `requote` began.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        match self.held.as_slice() {
            // The end of a part ends a line softly too.
            [b'=', rest @ ..] if !rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                self.held.clear();
                out.push(b'=');
            }
            [b'=', ..] => {
                self.goes_on(b'\n', out);
            }
            _ => self.keep_blanks(out),
        }
        self.column = 0;
    }

    /// Base64 with its longer lines split. Ends of lines stay: they part the data from a footer that a list put there.
    pub(super) fn rewrap(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    self.line_end(*byte, out);
                    continue;
                }
                // No line may look like a boundary.
                b'-' => {}
                _ if self.column >= WIDTH => {
                    out.extend_from_slice(b"\r\n");
                    self.column = 0;
                }
                _ => {}
            }
            // No base64, and so it stays: readers skip the one as the other (RFC 2045 section 6.8).
            out.push(if byte.is_ascii() { *byte } else { b'?' });
            self.column += 1;
        }
    }

    fn line_end(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.column = 0;
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.flush(out);
        self.put(&[byte], out);
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.flush(out);
        self.put(&hex(byte), out);
    }

    fn hold(&mut self, blank: u8, out: &mut Vec<u8>) {
        if self.held.len() >= MOST_BLANKS {
            self.flush(out);
        }
        self.held.push(blank);
    }

    /// A blank at the end of a line would be lost.
    fn keep_blanks(&mut self, out: &mut Vec<u8>) {
        if let Some(last) = self.held.pop() {
            self.escape(last, out);
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        for blank in std::mem::take(&mut self.held) {
            self.put(&[blank], out);
        }
    }

    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        debug_assert!(token.is_ascii(), "{token:?}");
        if self.column + token.len() >= WIDTH {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        // No line may look like a boundary, wherever it is folded.
        let dash = hex(b'-');
        let token = if self.column == 0 && token == b"-" { &dash } else { token };
        out.extend_from_slice(token);
        self.column += token.len();
    }
}

fn hex(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}
