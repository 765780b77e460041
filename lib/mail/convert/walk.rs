//! A message as it streams by: heads whole, everything else in pieces, with what each piece belongs to.

use crate::mail::decode::Encoding;
use crate::mail::header;
use crate::mail::param::Value;

/// A line that is longer is no boundary (RFC 2046 section 5.1.1 allows 70 characters).
const LONGEST_BOUNDARY: usize = 1100;

/// The longest head of a part.
const LONGEST_HEAD: usize = 1 << 20;

/// The most parts, and how many within each other.
const MOST: (usize, usize) = (10_000, 100);

/// What a head says.
pub(super) struct Entity<'a> {
    /// With the empty line at its end, if it has one.
    pub head: &'a [u8],
    /// What follows is content, no other entity.
    pub is_leaf: bool,
    /// It begins a message, not a part of one.
    pub is_message: bool,
    /// Covered by a signature, or of a type that may not be encoded.
    pub fixed: bool,
    pub encoding: Encoding,
    /// Why what follows is not understood.
    pub trouble: Option<&'static str>,
}

/// Who wants to know.
pub(super) trait Visitor {
    fn head(&mut self, entity: &Entity<'_>);
    /// Content of a leaf.
    fn leaf(&mut self, number: usize, bytes: &[u8]);
    /// The line end before a boundary belongs to the boundary; it was given to the leaf all the same.
    fn leaf_ends(&mut self, number: usize);
    /// Boundaries, and what stands around parts.
    fn other(&mut self, bytes: &[u8]);
}

struct Level {
    boundary: Vec<u8>,
    fixed: bool,
    digest: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Head {
        is_message: bool,
        /// Of a message within a part.
        is_inner: bool,
    },
    Leaf(usize),
    Between,
}

pub(super) struct Walk {
    levels: Vec<Level>,
    at: At,
    head: Vec<u8>,
    /// The line in hand, where it must be seen whole.
    held: Vec<u8>,
    at_start: bool,
    leaves: usize,
}

/// True for an empty line; one of blanks goes on with the field above it, if there is one.
pub(super) fn ends_head(line: &[u8], is_first: bool) -> bool {
    line.trim_ascii().is_empty() && (is_first || !matches!(line.first(), Some(b' ' | b'\t')))
}

impl Default for Walk {
    fn default() -> Self {
        let at = At::Head { is_message: true, is_inner: false };
        Walk { levels: Vec::new(), at, head: Vec::new(), held: Vec::new(), at_start: true, leaves: 0 }
    }
}

impl Walk {
    /// Lines must end in CRLF.
    pub(super) fn feed(&mut self, bytes: &[u8], visitor: &mut dyn Visitor) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            let is_head = matches!(self.at, At::Head { .. });
            let may_divide = self.at_start && *first == b'-' && !self.levels.is_empty();
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let piece = &rest[..end.unwrap_or(rest.len())];
            rest = &rest[piece.len()..];
            if is_head || may_divide || !self.held.is_empty() {
                self.held.extend_from_slice(piece);
                let most = if is_head { LONGEST_HEAD } else { LONGEST_BOUNDARY };
                if end.is_some() || self.held.len() > most {
                    let line = std::mem::take(&mut self.held);
                    self.line(&line, visitor);
                }
            } else {
                self.content(piece, visitor);
            }
            self.at_start = end.is_some();
        }
    }

    pub(super) fn finish(&mut self, visitor: &mut dyn Visitor) {
        if !self.held.is_empty() {
            let line = std::mem::take(&mut self.held);
            self.line(&line, visitor);
        }
        if let At::Head { is_message, .. } = self.at
            && !self.head.is_empty()
        {
            self.end_head(is_message, visitor);
        }
        if let At::Leaf(number) = self.at {
            visitor.leaf_ends(number);
        }
    }

    fn content(&mut self, bytes: &[u8], visitor: &mut dyn Visitor) {
        match self.at {
            At::Leaf(number) => visitor.leaf(number, bytes),
            _ => visitor.other(bytes),
        }
    }

    fn line(&mut self, line: &[u8], visitor: &mut dyn Visitor) {
        if let Some((level, closes)) = self.divides(line) {
            if let At::Head { is_message, .. } = self.at {
                self.end_head(is_message, visitor);
            }
            if let At::Leaf(number) = self.at {
                visitor.leaf_ends(number);
            }
            self.levels.truncate(level + usize::from(!closes));
            visitor.other(line);
            self.at = if closes { At::Between } else { At::Head { is_message: false, is_inner: false } };
            return;
        }
        let At::Head { is_message, is_inner } = self.at else { return self.content(line, visitor) };
        // QUIRK: some put empty lines before a message within theirs; readers skip them.
        if is_inner && self.head.is_empty() && line.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return visitor.other(line);
        }
        let is_more = matches!(line.first(), Some(b' ' | b'\t')) && !self.head.is_empty();
        if ends_head(line, self.head.is_empty()) {
            self.head.extend_from_slice(line);
            return self.end_head(is_message, visitor);
        }
        // QUIRK: a part that begins with its text has no head.
        let is_field = || header::fields(line).next().is_some();
        if !is_more && !is_field() || self.head.len() + line.len() > LONGEST_HEAD {
            self.end_head(is_message, visitor);
            return self.content(line, visitor);
        }
        self.head.extend_from_slice(line);
    }

    /// The level whose boundary this is, and whether it is the last one.
    fn divides(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        let level_of = |text: &[u8]| self.levels.iter().rposition(|level| level.boundary == text);
        match level_of(text) {
            Some(level) => Some((level, false)),
            None => level_of(text.strip_suffix(b"--")?).map(|level| (level, true)),
        }
    }

    fn end_head(&mut self, is_message: bool, visitor: &mut dyn Visitor) {
        let head = std::mem::take(&mut self.head);
        let above = self.levels.last();
        let mut kind = Value::default();
        let mut encoding = Encoding::Identity;
        for field in header::fields(&head) {
            if field.is("Content-Type") && kind.token.is_empty() {
                kind = Value::parse(field.value);
            } else if field.is("Content-Transfer-Encoding") {
                encoding = Encoding::parse(field.value);
            }
        }
        let in_digest = kind.token.is_empty() && above.is_some_and(|level| level.digest);
        let said = if in_digest { "message/rfc822" } else { kind.token.as_str() };
        let is_open = encoding == Encoding::Identity;
        let boundary = kind.raw("boundary").map(|text| text.trim_ascii_end().to_vec());
        let boundary = boundary.filter(|text| !text.is_empty() && said.starts_with("multipart/"));
        let inner = is_open && matches!(said, "message/rfc822" | "message/global" | "message/news");
        let is_leaf = boundary.is_none() && !inner;
        // RFC 2046 sections 5.1 and 5.2: these may not be encoded; fragments, reports, a multipart without parts.
        let is_structure = said.starts_with("multipart/") || said.starts_with("message/");
        let fixed = above.is_some_and(|level| level.fixed) || (is_leaf && is_open && is_structure);
        let full = self.leaves >= MOST.0 || self.levels.len() >= MOST.1;
        let trouble = full.then_some("it has too many parts");
        visitor.head(&Entity { head: &head, is_leaf, is_message, fixed, encoding, trouble });
        self.at = match boundary {
            Some(boundary) => {
                let fixed = fixed || said == "multipart/signed";
                if !full {
                    self.levels.push(Level { boundary, fixed, digest: said == "multipart/digest" });
                }
                At::Between
            }
            None if inner => At::Head { is_message: true, is_inner: true },
            None => {
                self.leaves += 1;
                At::Leaf(self.leaves - 1)
            }
        };
    }
}
