//! What is opened besides MIME: messages that were sent encoded, TNEF, opaque signed S/MIME, uuencode in texts.
//!
//! The container stays a part of its own; what it holds follows with numbers below it. What is encrypted cannot be
//! opened and gets a note.

use std::ops::Range;

use super::walk::Walk;
use super::{Buffer, Held, Part};
use crate::mail::cms::{self, Cms};
use crate::mail::decode::{self, Encoding};
use crate::mail::name::Sent;
use crate::mail::{tnef, words};

/// An encoded text longer than this is not searched for uuencode.
const LONGEST_TEXT: usize = 4 << 20;

impl Walk<'_, '_> {
    /// A message that was sent encoded, against RFC 2046 section 5.2.1, is decoded and read as well.
    pub(super) fn open_message(&mut self, index: usize, depth: usize) {
        if let Some(held) = self.decoded(index, depth) {
            let number = self.tree.parts[index].number.clone();
            self.inside(held, number, depth);
        }
    }

    /// Opens a leaf if it is a container.
    pub(super) fn open_container(&mut self, index: usize, depth: usize) {
        let part = &self.tree.parts[index];
        let body = &self.bytes[part.body.clone()];
        if part.said.starts_with("text/") {
            if is_armoured(body) {
                self.note(index, "encrypted (PGP): what it holds cannot be seen");
            }
            return self.open_text(index, depth);
        }
        if part.said == "application/pgp-encrypted" {
            return self.note(index, "encrypted (PGP/MIME): what the message holds cannot be seen");
        }
        let head = decode::decode_head(&part.encoding, body, 16);
        if tnef::is_tnef(&head) {
            self.open_tnef(index, depth);
        } else if is_cms(self.bytes, part) && head.first() == Some(&0x30) {
            self.open_cms(index, depth);
        }
    }

    fn note(&mut self, index: usize, text: &str) {
        let number = &self.tree.parts[index].number;
        self.tree.closed.push(format!("part {number}: {text}"));
        self.tree.parts[index].notes.push(text.to_string());
    }

    /// The decoded body of a part, on the shelf; `None`, and said, where that may not or cannot be.
    fn decoded(&mut self, index: usize, depth: usize) -> Option<Held> {
        if self.is_deep(depth) {
            self.cut_deep();
            return None;
        }
        let part = &self.tree.parts[index];
        let (encoding, body) = (part.encoding.clone(), &self.bytes[part.body.clone()]);
        if !self.spend(body.len()) {
            return None;
        }
        let mut notes = Vec::new();
        let kept = self.shelf.keep(&mut |mut out| {
            notes = decode::decode(&encoding, body, &mut out)?.notes;
            Ok(())
        });
        self.tree.parts[index].notes.extend(notes);
        kept.map_err(|why| self.tree.broken = Some(why)).ok()
    }

    fn open_tnef(&mut self, index: usize, depth: usize) {
        if let Some(held) = self.decoded(index, depth) {
            let number = self.tree.parts[index].number.clone();
            self.tree.parts[index].is_container = true;
            let buffer = self.tree.buffers.len();
            let length = (*held).as_ref().len();
            self.tree.buffers.push(Buffer::Kept(held));
            self.tnef_files(buffer, 0..length, &number, self.depth(depth) + 1);
        }
    }

    /// The files of the stream in `range` of a buffer; messages within are streams of their own.
    fn tnef_files(&mut self, buffer: usize, range: Range<usize>, number: &str, depth: usize) {
        if depth > self.limits.depth {
            return self.cut_deep();
        }
        let Some(found) = tnef::read(&self.tree.buffers[buffer].bytes()[range.clone()]) else { return };
        if let Some(damage) = found.damage {
            self.cut(format!("part {number}: {damage}"));
        }
        for (at, file) in found.files.into_iter().enumerate() {
            let number = format!("{number}.{}", at + 1);
            let data = range.start + file.data.start..range.start + file.data.end;
            if file.is_stream {
                self.tnef_files(buffer, data, &number, depth + 1);
                continue;
            }
            let said = file.said.unwrap_or_else(|| "application/octet-stream".to_string());
            let part = Part {
                number,
                depth,
                named: file.name.map(|name| Sent { path: name.clone(), text: name }),
                ..inner(said, buffer, data)
            };
            if self.push_inner(part).is_none() {
                return;
            }
        }
    }

    fn open_cms(&mut self, index: usize, depth: usize) {
        let Some(held) = self.decoded(index, depth) else { return };
        let bytes = (*held).as_ref();
        let number = self.tree.parts[index].number.clone();
        match cms::read(bytes) {
            Some(Cms::Signed(pieces)) => {
                self.tree.parts[index].is_container = true;
                let content = self.shelf.keep(&mut |out| {
                    pieces.iter().try_for_each(|piece| out.write_all(&bytes[piece.clone()]))
                });
                match content {
                    Ok(content) => self.inside(content, number, depth),
                    Err(why) => self.tree.broken = Some(why),
                }
            }
            Some(Cms::Encrypted) => self.note(index, "encrypted (S/MIME): what it holds cannot be seen"),
            Some(Cms::Compressed) => self.note(index, "compressed (S/MIME): left closed"),
            Some(Cms::Other) => self.note(index, "S/MIME of an unknown kind: left closed"),
            Some(Cms::Detached) => {}
            None => {
                let why = "S/MIME that cannot be read";
                self.tree.parts[index].notes.push(why.to_string());
                self.cut(format!("part {number}: {why}"));
            }
        }
    }

    /// Files that are uuencoded in the middle of a text.
    fn open_text(&mut self, index: usize, depth: usize) {
        let part = &self.tree.parts[index];
        let (number, body) = (part.number.clone(), part.body.clone());
        let depth = self.depth(depth) + 1;
        match part.encoding {
            Encoding::Identity => self.uu_files(None, body, &number, depth),
            Encoding::Base64 | Encoding::QuotedPrintable if body.len() <= LONGEST_TEXT => {
                let mut text = Vec::new();
                // A Vec takes everything.
                let _ = decode::decode(&part.encoding, &self.bytes[body], &mut text);
                if decode::find_uu(&text, 0).is_none() {
                    return;
                }
                match self.shelf.keep(&mut |out| out.write_all(&text)) {
                    Ok(held) => {
                        self.tree.buffers.push(Buffer::Kept(held));
                        let buffer = self.tree.buffers.len() - 1;
                        self.uu_files(Some(buffer), 0..text.len(), &number, depth);
                    }
                    Err(why) => self.tree.broken = Some(why),
                }
            }
            _ => {}
        }
    }

    fn uu_files(&mut self, buffer: Option<usize>, range: Range<usize>, number: &str, depth: usize) {
        let mut at = 0;
        for count in 1.. {
            let (text, buffer) = match buffer {
                Some(buffer) => (&self.tree.buffers[buffer].bytes()[range.clone()], buffer),
                None => (&self.bytes[range.clone()], self.buffer),
            };
            let Some(found) = decode::find_uu(text, at) else { return };
            at = found.range.end;
            let name =
                decode::uu_name(&text[found.range.clone()]).map(|name| words::guess(&name).into_owned());
            let body = range.start + found.range.start..range.start + found.range.end;
            let part = Part {
                number: format!("{number}.{count}"),
                depth,
                encoding: Encoding::Uuencode,
                named: name.map(|name| Sent { path: name.clone(), text: name }),
                ..inner("application/octet-stream".to_string(), buffer, body)
            };
            if self.push_inner(part).is_none() {
                return;
            }
        }
    }
}

/// A file in a container, with what all of them have in common.
fn inner(said: String, buffer: usize, body: Range<usize>) -> Part {
    Part {
        number: String::new(),
        depth: 0,
        said,
        disposition: Some("attachment".to_string()),
        encoding: Encoding::Identity,
        is_message: false,
        is_container: false,
        notes: Vec::new(),
        named: None,
        buffer,
        head: 0..0,
        body,
    }
}

/// Opaque S/MIME by its type, or by its name where a gateway changed the type.
fn is_cms(bytes: &[u8], part: &Part) -> bool {
    let by_name = || {
        crate::mail::name::sent(&bytes[part.head.clone()])
            .is_some_and(|name| name.text.to_ascii_lowercase().ends_with(".p7m"))
    };
    matches!(part.said.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
        || (part.said == "application/octet-stream" && by_name())
}

/// A text that is PGP's armour and nothing else (RFC 9580 section 6.2).
fn is_armoured(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"-----BEGIN PGP MESSAGE-----")
}
