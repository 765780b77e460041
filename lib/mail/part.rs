//! The parts of a message: every leaf, and every message inside the message, as a flat list in order.
//!
//! One pass over the bytes with a stack of open boundaries, so that time is linear whatever the nesting; limits
//! on depth, parts and heads. Nothing is copied but messages that were sent encoded.
//!
//! ```text
//! walk        = entity, then: find the next boundary line of any open level, close what lies above it, entity …
//! entity      = head, then: multipart -> open a level | message/rfc822 -> open a level, entity | leaf
//! ```

use std::borrow::Cow;
use std::ops::Range;

use super::boundary::{self, Boundaries};
use super::decode::{self, Encoding};
use super::header;
use super::name::{self, Sent};
use super::param::Value;
use super::words;

/// Where reading stops; beyond a limit what was found so far is kept and [`Tree::cut`] says so.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Parts within parts.
    pub depth: usize,
    /// Parts in a message.
    pub parts: usize,
    /// Bytes of one head.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 100, parts: 10_000, head: 1 << 20 }
    }
}

/// One part: a leaf, or a message that was sent inside this one.
#[derive(Debug, Clone)]
pub struct Part {
    /// `2.1`, numbered as IMAP does (RFC 9051 section 6.4.5.1).
    pub number: String,
    /// How many parts lie around it.
    pub depth: usize,
    /// `type/subtype` in lower case as the sender said it; `text/plain` where nothing usable was said.
    pub said: String,
    /// `attachment`, `inline` or what else was said, in lower case.
    pub disposition: Option<String>,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// True for a message inside the message; its own parts follow.
    pub is_message: bool,
    /// Oddities that did not stop us.
    pub notes: Vec<String>,
    buffer: usize,
    head: Range<usize>,
    body: Range<usize>,
}

/// The parts of one message.
#[derive(Debug, Default)]
pub struct Tree<'a> {
    /// Leaves and inner messages in the order in which they stand.
    pub parts: Vec<Part>,
    /// Oddities of the message as a whole.
    pub notes: Vec<String>,
    /// Why reading stopped before the end, if it did: something may be missing.
    pub cut: Option<String>,
    /// True once there are as many parts as are allowed: nothing more is read.
    full: bool,
    buffers: Vec<Cow<'a, [u8]>>,
}

impl<'a> Tree<'a> {
    /// Takes a message apart; never fails: whatever the bytes are, they are at least one leaf.
    pub fn parse(message: &'a [u8], limits: &Limits) -> Tree<'a> {
        let mut tree = Tree::default();
        let message = match with_line_feeds(message) {
            Some(repaired) => {
                tree.notes.push("line ends were lone carriage returns".to_string());
                Cow::Owned(repaired)
            }
            None => Cow::Borrowed(message),
        };
        let budget = message.len().saturating_mul(4).saturating_add(1 << 20);
        tree.buffers.push(Cow::Borrowed(&[]));
        let start = skip_envelope(&message);
        let mut walk =
            Walk { tree: &mut tree, limits, budget, bytes: &message, buffer: 0, levels: Vec::new() };
        walk.levels.push(Level { kind: LevelKind::Message(None), prefix: String::new() });
        walk.run(start, message.len(), Boundaries::default(), 0);
        tree.buffers[0] = message;
        tree
    }

    /// The head of a part, without the empty line.
    pub fn head(&self, part: &Part) -> &[u8] {
        &self.buffers[part.buffer][part.head.clone()]
    }

    /// The body of a part, still encoded.
    pub fn body(&self, part: &Part) -> &[u8] {
        &self.buffers[part.buffer][part.body.clone()]
    }

    /// The file name as the sender gave it, decoded but not made safe.
    pub fn name(&self, part: &Part) -> Option<Sent> {
        name::sent(self.head(part)).or_else(|| match part.encoding {
            Encoding::Uuencode => {
                let text = words::guess(&decode::uu_name(self.body(part))?).into_owned();
                Some(Sent { path: text.clone(), text })
            }
            _ => None,
        })
    }

    /// True for a leaf that has a name, or is said to be an attachment, or is no text: what `--all` takes.
    pub fn is_attachment(&self, part: &Part) -> bool {
        let family = part.said.split('/').next().unwrap_or_default();
        !part.is_message
            && (part.disposition.as_deref() == Some("attachment")
                || !matches!(family, "text" | "message" | "multipart")
                || self.name(part).is_some())
    }
}

/// The head of a message: what stands before the first empty line, at most 1 MiB.
pub fn head(message: &[u8]) -> &[u8] {
    let start = skip_envelope(message);
    let found =
        boundary::read_head(message, start, message.len(), Limits::default().head, &Boundaries::default());
    &message[found.range]
}

/// QUIRK: leading empty lines and an mbox `From ` line before the first field.
fn skip_envelope(message: &[u8]) -> usize {
    let blank = message.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let rest = &message[blank..];
    let is_envelope = |start: &[u8]| rest.starts_with(start) && rest.get(start.len()) != Some(&b':');
    if is_envelope(b"From ") || is_envelope(b">From ") {
        return memchr::memchr(b'\n', rest).map_or(message.len(), |end| blank + end + 1);
    }
    blank
}

/// QUIRK: a message with lone carriage returns as line ends (old Macs).
fn with_line_feeds(message: &[u8]) -> Option<Vec<u8>> {
    if memchr::memchr(b'\n', message).is_some() || memchr::memchr(b'\r', message).is_none() {
        return None;
    }
    Some(message.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }).collect())
}

/// What is open above the current part.
struct Level {
    kind: LevelKind,
    /// Its number, which begins the numbers of its children; empty for the message itself.
    prefix: String,
}

enum LevelKind {
    /// A message; the part that contains it, but for the outermost.
    Message(Option<usize>),
    Multipart {
        digest: bool,
        children: usize,
        body: usize,
        said: String,
        head: Range<usize>,
    },
}

/// What a head says.
struct Said {
    head: Range<usize>,
    kind: Value,
    said: String,
    disposition: Option<String>,
    encoding: Encoding,
    notes: Vec<String>,
}

struct Walk<'t, 'a, 'l> {
    tree: &'t mut Tree<'a>,
    limits: &'l Limits,
    /// How many bytes may still be decoded or read a second time.
    budget: usize,
    bytes: &'t [u8],
    buffer: usize,
    levels: Vec<Level>,
}

impl Walk<'_, '_, '_> {
    /// Reads from `start`, where a head begins, or (with `open`) where a multipart body begins.
    fn run(&mut self, start: usize, end: usize, mut open: Boundaries, depth: usize) {
        let outer = self.levels.len();
        let mut at = start;
        let mut is_head = open.is_empty();
        while !self.tree.full {
            let mut leaf = None;
            if is_head {
                (at, leaf) = self.entity(at, end, &mut open, depth);
            }
            let hit = open.find(self.bytes, at, end);
            let body_end = hit.as_ref().map_or(end, |hit| hit.body_end);
            if let Some(index) = leaf {
                self.finish_leaf(index, body_end, depth);
            }
            let Some(hit) = hit else { break };
            let keep = hit.level + usize::from(!hit.closes);
            self.close(keep.max(outer - 1), body_end, &mut open, depth);
            (at, is_head) = (hit.after, !hit.closes);
            if self.levels.len() < outer {
                break;
            }
        }
        self.close(outer - 1, end, &mut open, depth);
    }

    /// Reads one head at `at` and opens what it says; gives where its body begins and, for a leaf, its index.
    fn entity(
        &mut self,
        at: usize,
        end: usize,
        open: &mut Boundaries,
        depth: usize,
    ) -> (usize, Option<usize>) {
        let mut at = at;
        loop {
            if self.tree.parts.len() >= self.limits.parts {
                self.tree.full = true;
                self.cut(format!("more than {} parts", self.limits.parts));
                return (at, None);
            }
            let found = boundary::read_head(self.bytes, at, end, self.limits.head, open);
            let mut said = self.said(found.range);
            if found.cut {
                said.notes.push(format!("head longer than {} bytes", self.limits.head));
            }
            let body = found.body;
            let deep = depth + self.levels.len() > self.limits.depth;
            if said.said.starts_with("multipart/") && !deep {
                self.open_multipart(said, body, end, open);
                return (body, None);
            }
            if deep && (said.said.starts_with("multipart/") || is_message(&said.said)) {
                self.cut(format!("nested deeper than {}", self.limits.depth));
            }
            let enter = is_message(&said.said) && !deep;
            let index = self.push(said, body, depth, enter);
            if !enter || self.tree.parts[index].encoding != Encoding::Identity {
                return (body, Some(index));
            }
            let prefix = self.tree.parts[index].number.clone();
            self.levels.push(Level { kind: LevelKind::Message(Some(index)), prefix });
            at = body + self.bytes[body..end].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            let envelope = skip_envelope(&self.bytes[at..end]);
            at += envelope;
        }
    }

    fn said(&self, head: Range<usize>) -> Said {
        let mut said = Said {
            head: head.clone(),
            kind: Value::default(),
            said: String::new(),
            disposition: None,
            encoding: Encoding::Identity,
            notes: Vec::new(),
        };
        let mut seen = (false, false, false);
        for field in header::fields(&self.bytes[head]) {
            if field.is("Content-Type") && !std::mem::replace(&mut seen.0, true) {
                said.kind = Value::parse(field.value);
                said.said = said.kind.token.replace(char::is_whitespace, "");
            } else if field.is("Content-Disposition") && !std::mem::replace(&mut seen.1, true) {
                said.disposition = Some(Value::parse(field.value).token);
            } else if field.is("Content-Transfer-Encoding") && !std::mem::replace(&mut seen.2, true) {
                said.encoding = Encoding::parse(field.value);
            }
        }
        if !said.said.contains('/') {
            if seen.0 {
                said.notes.push(format!("Content-Type \"{}\" makes no sense", said.said));
            }
            let in_digest = matches!(
                self.levels.last(),
                Some(Level { kind: LevelKind::Multipart { digest: true, .. }, .. })
            );
            said.said = if in_digest { "message/rfc822" } else { "text/plain" }.to_string();
        }
        said
    }

    fn open_multipart(&mut self, said: Said, body: usize, end: usize, open: &mut Boundaries) {
        let prefix = self.number(true);
        let boundary = said.kind.raw("boundary").map(|b| b.trim_ascii_end().to_vec());
        let boundary = match boundary.filter(|b| !b.is_empty()) {
            Some(boundary) => Some(boundary),
            None => boundary::guess(&self.bytes[body..end]),
        };
        let kind = LevelKind::Multipart {
            digest: said.said == "multipart/digest",
            children: 0,
            body,
            said: said.said,
            head: said.head,
        };
        self.levels.push(Level { kind, prefix });
        if let Some(boundary) = boundary {
            open.push(boundary, self.levels.len() - 1);
        }
    }

    /// The number of the next child of the innermost level.
    fn number(&mut self, is_multipart: bool) -> String {
        let Some(level) = self.levels.last_mut() else { return String::new() };
        let own = match &mut level.kind {
            LevelKind::Multipart { children, .. } => {
                *children += 1;
                children.to_string()
            }
            LevelKind::Message(_) if is_multipart => return level.prefix.clone(),
            LevelKind::Message(_) => "1".to_string(),
        };
        if level.prefix.is_empty() { own } else { format!("{}.{own}", level.prefix) }
    }

    fn push(&mut self, said: Said, body: usize, depth: usize, is_message: bool) -> usize {
        let number = self.number(false);
        let mut notes = said.notes;
        if said.said == "message/partial" {
            notes.push("one fragment of a larger message (message/partial)".to_string());
        }
        if let Encoding::Unknown(name) = &said.encoding {
            notes.push(format!("unknown transfer encoding \"{name}\""));
        }
        self.tree.parts.push(Part {
            number,
            depth: depth + self.levels.len() - 1,
            said: said.said,
            disposition: said.disposition,
            encoding: said.encoding,
            is_message,
            notes,
            buffer: self.buffer,
            head: said.head,
            body: body..body,
        });
        self.tree.parts.len() - 1
    }

    fn finish_leaf(&mut self, index: usize, end: usize, depth: usize) {
        let part = &mut self.tree.parts[index];
        part.body.end = end.max(part.body.start);
        if part.is_message {
            self.open_encoded(index, depth);
        }
    }

    /// A message that was sent encoded, against RFC 2046 section 5.2.1, is decoded and read as well.
    fn open_encoded(&mut self, index: usize, depth: usize) {
        let part = self.tree.parts[index].clone();
        let body = &self.bytes[part.body.clone()];
        if !self.spend(body.len()) {
            return;
        }
        let mut bytes = Vec::new();
        // A Vec takes everything.
        let decoded = decode::decode(&part.encoding, body, &mut bytes).unwrap_or_default();
        self.tree.parts[index].notes.extend(decoded.notes);
        let buffer = self.tree.buffers.len();
        self.tree.buffers.push(Cow::Borrowed(&[]));
        let start = skip_envelope(&bytes);
        let mut inner = Walk {
            tree: self.tree,
            limits: self.limits,
            budget: self.budget,
            bytes: &bytes,
            buffer,
            levels: vec![Level { kind: LevelKind::Message(None), prefix: part.number }],
        };
        inner.run(start, bytes.len(), Boundaries::default(), depth + self.levels.len());
        self.budget = inner.budget;
        self.tree.buffers[buffer] = Cow::Owned(bytes);
    }

    /// Closes levels until `keep` are left; what they contain ends at `end`.
    fn close(&mut self, keep: usize, end: usize, open: &mut Boundaries, depth: usize) {
        while self.levels.len() > keep {
            let Some(level) = self.levels.pop() else { return };
            open.close(self.levels.len());
            match level.kind {
                LevelKind::Message(Some(index)) => {
                    let body = &mut self.tree.parts[index].body;
                    body.end = end.max(body.start);
                }
                LevelKind::Message(None) => {}
                LevelKind::Multipart { children: 0, body, said, head, digest } => {
                    self.empty_multipart((body..end.max(body), head, said, digest), level.prefix, depth);
                }
                LevelKind::Multipart { .. } => {}
            }
        }
    }

    /// QUIRK: a multipart without any part under the boundary it names: tried again with the boundary that its
    /// body seems to use, else kept as one leaf.
    fn empty_multipart(
        &mut self,
        (body, head, said, digest): (Range<usize>, Range<usize>, String, bool),
        prefix: String,
        depth: usize,
    ) {
        if self.tree.full {
            return;
        }
        let region = &self.bytes[body.clone()];
        if let Some(boundary) = boundary::guess(region)
            && self.spend(region.len())
        {
            self.tree.notes.push(format!("part {}: boundary guessed", shown(&prefix)));
            let depth = depth + self.levels.len();
            let kind = LevelKind::Multipart { digest, children: 0, body: body.start, said, head };
            let mut inner = Walk {
                tree: self.tree,
                limits: self.limits,
                budget: self.budget,
                bytes: self.bytes,
                buffer: self.buffer,
                levels: vec![Level { kind, prefix }],
            };
            let mut open = Boundaries::default();
            open.push(boundary, 0);
            inner.run(body.start, body.end, open, depth);
            self.budget = inner.budget;
            return;
        }
        let (kind, disposition, encoding) = (Value::default(), None, Encoding::Identity);
        let notes = vec!["multipart without parts".to_string()];
        let start = body.start;
        let index =
            self.push(Said { head, kind, said, disposition, encoding, notes }, start, depth + 1, false);
        self.tree.parts[index].number = if prefix.is_empty() { "1".to_string() } else { prefix };
        self.tree.parts[index].body.end = body.end;
    }

    fn spend(&mut self, bytes: usize) -> bool {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                true
            }
            None => {
                self.cut("too much encoded within encoded".to_string());
                false
            }
        }
    }

    fn cut(&mut self, why: String) {
        self.tree.cut.get_or_insert(why);
    }
}

fn is_message(said: &str) -> bool {
    matches!(said, "message/rfc822" | "message/global" | "message/news")
}

fn shown(prefix: &str) -> &str {
    if prefix.is_empty() { "0" } else { prefix }
}

#[cfg(test)]
mod tests;
