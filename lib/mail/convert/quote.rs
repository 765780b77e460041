//! Transfer encodings, piece by piece (RFC 2045 section 6): lines stay lines, none is longer than 76.

/// A line of an encoded part, with the `=` that ends it softly.
const WIDTH: usize = 76;

/// One part's encoder; `quote`, `requote` or `rewrap`, not mixed.
#[derive(Default)]
pub(super) struct Encoder {
    column: usize,
    /// A blank that may end the line, or the beginning of `=XX`.
    held: Vec<u8>,
}

impl Encoder {
    /// Text with CRLF line ends as quoted-printable.
    pub(super) fn quote(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => self.line_end(*byte, out),
                b' ' | b'\t' => {
                    self.flush(out);
                    self.held.push(*byte);
                }
                33..=60 | 62..=126 => {
                    self.flush(out);
                    self.put(&[*byte], out);
                }
                _ => {
                    self.flush(out);
                    self.put(&hex(*byte), out);
                }
            }
        }
    }

    /// What is quoted-printable already, but for lines and bytes that have no place in it.
    pub(super) fn requote(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            if self.held.first() == Some(&b'=') {
                if matches!(byte, b'\r' | b'\n') {
                    // Its own soft end.
                    out.append(&mut self.held);
                    self.column = 0;
                    out.push(*byte);
                    continue;
                }
                self.held.push(*byte);
                if self.held.len() == 3 || !byte.is_ascii_hexdigit() {
                    self.flush(out);
                }
                continue;
            }
            match byte {
                b'\r' | b'\n' => {
                    self.drop_blank();
                    self.line_end(*byte, out);
                }
                b' ' | b'\t' | b'=' => {
                    self.flush(out);
                    self.held.push(*byte);
                }
                128.. => {
                    self.flush(out);
                    self.put(&hex(*byte), out);
                }
                _ => {
                    self.flush(out);
                    self.put(&[*byte], out);
                }
            }
        }
    }

    /// Ends what `quote` or `requote` began.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.blanks(out);
        self.flush(out);
        self.column = 0;
    }

    /// Base64 in lines of 76; what is no base64 is left out, as every reader does (RFC 2045 section 6.8).
    pub(super) fn rewrap(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes.iter().filter(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b)) {
            if self.column == WIDTH {
                out.extend_from_slice(b"\r\n");
                self.column = 0;
            }
            out.push(*byte);
            self.column += 1;
        }
    }

    /// Ends what `rewrap` began.
    pub(super) fn end_wrap(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.column) > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn line_end(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.blanks(out);
        out.push(byte);
        self.column = 0;
    }

    /// RFC 2045 section 6.7 rule 3: at the end of a line it was put there on the way.
    fn drop_blank(&mut self) {
        self.held.retain(|b| !matches!(b, b' ' | b'\t'));
    }

    /// A blank at the end of a line would be lost.
    fn blanks(&mut self, out: &mut Vec<u8>) {
        if let [blank @ (b' ' | b'\t')] = self.held[..] {
            self.held.clear();
            self.put(&hex(blank), out);
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.put(&held, out);
        }
    }

    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if self.column + token.len() >= WIDTH {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        out.extend(token.iter().filter(|b| b.is_ascii()));
        self.column += token.len();
    }
}

fn hex(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}
