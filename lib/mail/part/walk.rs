//! The pass over a message's bytes.
//!
//! ```text
//! walk        = entity, then: find the next boundary line of any open level, close what lies above it, entity …
//! entity      = head, then: multipart -> open a level | message/rfc822 -> open a level, entity | leaf
//! ```

use std::ops::Range;

use super::said::Said;
use super::{Buffer, Held, Limits, Part, Shelf, Tree, is_message, skip_envelope};
use crate::mail::boundary::{self, Boundaries};
use crate::mail::decode::{self, Encoding};
use crate::mail::param::Value;

/// What is open above the current part.
pub(super) struct Level {
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

pub(super) struct Walk<'t, 'a> {
    pub(super) tree: &'t mut Tree<'a>,
    pub(super) limits: &'t Limits,
    pub(super) shelf: &'t mut dyn Shelf,
    /// How many bytes may still be decoded or read a second time.
    pub(super) budget: usize,
    pub(super) bytes: &'t [u8],
    pub(super) buffer: usize,
    pub(super) levels: Vec<Level>,
}

impl<'t, 'a> Walk<'t, 'a> {
    /// Over a whole message, the first buffer of the tree.
    pub(super) fn over_message(
        tree: &'t mut Tree<'a>,
        limits: &'t Limits,
        shelf: &'t mut dyn Shelf,
        bytes: &'t [u8],
    ) -> Walk<'t, 'a> {
        let budget = bytes.len().saturating_mul(4).saturating_add(1 << 20);
        let levels = vec![Level { kind: LevelKind::Message(None), prefix: String::new() }];
        Walk { tree, limits, shelf, budget, bytes, buffer: 0, levels }
    }

    /// Over bytes that came out of part `number`; what is found gets numbers below it. The bytes become a buffer of
    /// the tree when the walk is done.
    pub(super) fn inside(&mut self, held: Held, number: String, depth: usize) {
        let buffer = self.tree.buffers.len();
        self.tree.buffers.push(Buffer::Empty);
        let bytes = (*held).as_ref();
        let mut inner = Walk {
            tree: self.tree,
            limits: self.limits,
            shelf: self.shelf,
            budget: self.budget,
            bytes,
            buffer,
            levels: vec![Level { kind: LevelKind::Message(None), prefix: number }],
        };
        inner.run(skip_envelope(bytes), bytes.len(), Boundaries::default(), depth + self.levels.len());
        self.budget = inner.budget;
        self.tree.buffers[buffer] = Buffer::Kept(held);
    }

    /// Reads from `start`, where a head begins, or (with `open`) where a multipart body begins.
    pub(super) fn run(&mut self, start: usize, end: usize, mut open: Boundaries, depth: usize) {
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
            if !self.has_room() {
                return (at, None);
            }
            let found = boundary::read_head(self.bytes, at, end, self.limits.head, open);
            let mut said = Said::read(self.bytes, found.range, self.is_digest());
            if found.cut {
                self.cut_head(&mut said, found.body);
            }
            let body = found.body;
            let deep = self.is_deep(depth);
            if said.said.starts_with("multipart/") && !deep {
                self.open_multipart(said, body, end, open);
                return (body, None);
            }
            if deep && (said.said.starts_with("multipart/") || is_message(&said.said)) {
                self.cut_deep();
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

    /// True where a part without a type is a message.
    fn is_digest(&self) -> bool {
        let innermost = self.levels.last().map(|level| &level.kind);
        matches!(innermost, Some(LevelKind::Multipart { digest: true, .. }))
    }

    fn open_multipart(&mut self, said: Said, body: usize, end: usize, open: &mut Boundaries) {
        let prefix = self.number(true);
        let boundary = said.boundary().or_else(|| boundary::guess(&self.bytes[body..end]));
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
            depth: self.depth(depth),
            said: said.said,
            disposition: said.disposition,
            encoding: said.encoding,
            is_message,
            is_container: false,
            notes,
            named: None,
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
            self.open_message(index, depth);
        } else if self.limits.containers {
            self.open_container(index, depth);
        }
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
            let kind = LevelKind::Multipart { digest, children: 0, body: body.start, said, head };
            return self.again((self.bytes, self.buffer), body, Level { kind, prefix }, boundary, depth);
        }
        let sent = Said::read(self.bytes, head.clone(), digest);
        if self.encoded_multipart(region, &sent, &said, &prefix, depth) {
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

    /// QUIRK: a multipart that was sent encoded, against RFC 2045 section 6.4, is decoded and read; false if it is none.
    fn encoded_multipart(
        &mut self,
        body: &[u8],
        sent: &Said,
        said: &str,
        prefix: &str,
        depth: usize,
    ) -> bool {
        if matches!(sent.encoding, Encoding::Identity | Encoding::Unknown(_)) {
            return false;
        }
        if self.is_deep(depth) {
            self.cut_deep();
            return false;
        }
        if !self.spend(body.len()) {
            return false;
        }
        let mut notes = vec!["a multipart that was sent encoded".to_string()];
        let kept = self.shelf.keep(&mut |mut out| {
            notes.extend(decode::decode(&sent.encoding, body, &mut out)?.notes);
            Ok(())
        });
        let held = match kept {
            Ok(held) => held,
            Err(why) => {
                self.tree.broken = Some(why);
                return false;
            }
        };
        let bytes = (*held).as_ref();
        let named = sent.boundary().filter(|boundary| boundary::is_used(boundary, bytes));
        let Some(boundary) = named.or_else(|| boundary::guess(bytes)) else { return false };
        let of_part = |note| format!("part {}: {note}", shown(prefix));
        self.tree.notes.extend(notes.into_iter().map(of_part));
        let buffer = self.tree.buffers.len();
        self.tree.buffers.push(Buffer::Empty);
        let digest = said == "multipart/digest";
        let kind = LevelKind::Multipart { digest, children: 0, body: 0, said: said.to_string(), head: 0..0 };
        let level = Level { kind, prefix: prefix.to_string() };
        self.again((bytes, buffer), 0..bytes.len(), level, boundary, depth);
        self.tree.buffers[buffer] = Buffer::Kept(held);
        true
    }

    /// Reads the body of a multipart, in these bytes of this buffer, as one with `boundary`.
    fn again(
        &mut self,
        (bytes, buffer): (&[u8], usize),
        body: Range<usize>,
        level: Level,
        boundary: Vec<u8>,
        depth: usize,
    ) {
        let depth = depth + self.levels.len();
        let mut inner = Walk {
            tree: self.tree,
            limits: self.limits,
            shelf: self.shelf,
            budget: self.budget,
            bytes,
            buffer,
            levels: vec![level],
        };
        let mut open = Boundaries::default();
        open.push(boundary, 0);
        inner.run(body.start, body.end, open, depth);
        self.budget = inner.budget;
    }

    /// A file that a container in part `within` holds, as the next part; `None` once there are too many.
    pub(super) fn push_inner(&mut self, part: Part) -> Option<usize> {
        if !self.has_room() {
            return None;
        }
        self.tree.parts.push(part);
        Some(self.tree.parts.len() - 1)
    }
}

fn shown(prefix: &str) -> &str {
    if prefix.is_empty() { "0" } else { prefix }
}
