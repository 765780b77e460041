//! FETCH: what a client asks of messages, bodies straight from their files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::SystemTime;

use imap_codec::imap_types::core::AString;
use imap_codec::imap_types::fetch::{
    MacroOrMessageDataItemNames, MessageDataItemName as Item, Part as Path, Section,
};
use imap_codec::imap_types::sequence::SequenceSet;

use super::mime::{self, Inside, Part};
use super::structure::{envelope, structure};
use super::view::{Named, View};
use super::words::astring;
use super::{Answer, Answered, Session, header};
use crate::sandbox::maildir::{Flags, Message};
use crate::sandbox::wire::Wire;

/// The message's file, opened and read as far as the items need it.
struct Source {
    file: File,
    size: u64,
    root: Option<Part>,
}

/// What a section stands for.
enum Content {
    /// A place in the file.
    Place(Range<u64>),
    Bytes(Vec<u8>),
    /// There is no such part.
    Nil,
}

impl Session<'_> {
    pub(super) fn fetch(
        &mut self,
        set: &SequenceSet,
        names: MacroOrMessageDataItemNames<'static>,
        by_uid: bool,
    ) -> Answered {
        let mut items = match &names {
            MacroOrMessageDataItemNames::Macro(name) => name.expand(),
            MacroOrMessageDataItemNames::MessageDataItemNames(items) => items.clone(),
        };
        if items.iter().any(|item| matches!(item, Item::Binary { .. } | Item::BinarySize { .. })) {
            return Ok(Answer::bad("BINARY is not done here"));
        }
        if by_uid && !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        let Some(view) = &mut self.view else { return Ok(Answer::bad("select a mailbox first")) };
        let Some(named) = view.resolve(set, by_uid) else { return Ok(Answer::bad("no such message")) };
        let mut missing = false;
        for named in named {
            missing |= !fetch_one(self.wire, view, named, &items)?;
        }
        Ok(match missing && !by_uid {
            true => Answer::no("[EXPUNGEISSUED] some of them are gone"),
            false => Answer::ok("that is all"),
        })
    }
}

/// Sends the items of one message; false if it is gone.
fn fetch_one(wire: &mut Wire, view: &mut View, named: Named, items: &[Item<'_>]) -> io::Result<bool> {
    let Some(mut message) = view.mailbox.message(named.uid) else { return Ok(false) };
    let mut source = None;
    if items.iter().any(needs_file) {
        let Some(file) = view.mailbox.open_message(named.uid)? else { return Ok(false) };
        source = Some(Source::read(file, items)?);
    }
    let mut with_flags = items.contains(&Item::Flags);
    if items.iter().any(marks_seen) && !view.read_only && !message.flags.has(Flags::SEEN) {
        let seen =
            view.mailbox.store(&[named.uid], |flags, words| (flags.with(Flags::SEEN), words.to_vec()))?;
        if let Some(seen) = seen.into_iter().next() {
            view.mark_own(&seen);
            message = seen;
            with_flags = true;
        }
    }
    write!(wire, "* {} FETCH (", named.number)?;
    let mut first = true;
    if with_flags {
        write!(wire, "FLAGS ({})", view.flags(&message))?;
        first = false;
    }
    for item in items.iter().filter(|item| **item != Item::Flags) {
        if !first {
            wire.write_all(b" ")?;
        }
        first = false;
        send_item(wire, view, &message, source.as_mut(), item)?;
    }
    wire.write_all(b")\r\n")?;
    Ok(true)
}

fn send_item(
    wire: &mut Wire,
    view: &View,
    message: &Message,
    source: Option<&mut Source>,
    item: &Item<'_>,
) -> io::Result<()> {
    match (item, source) {
        (Item::Uid, _) => write!(wire, "UID {}", message.uid),
        (Item::Rfc822Size, _) => write!(wire, "RFC822.SIZE {}", message.size),
        (Item::InternalDate, _) => {
            write!(wire, "INTERNALDATE \"{}\"", internal_date(view.mailbox.date(message)))
        }
        (Item::Envelope, Some(source)) => {
            wire.write_all(b"ENVELOPE ")?;
            wire.write_all(&envelope(source.head()))
        }
        (Item::Body | Item::BodyStructure, Some(source)) => {
            let extended = *item == Item::BodyStructure;
            wire.write_all(if extended { b"BODYSTRUCTURE " } else { b"BODY " })?;
            let text = source.root.as_ref().map(|root| structure(root, extended));
            wire.write_all(&text.unwrap_or_else(|| b"NIL".to_vec()))
        }
        (Item::BodyExt { section, partial, .. }, Some(source)) => {
            write!(wire, "BODY[{}]", label(section.as_ref()))?;
            if let Some((origin, _)) = partial {
                write!(wire, "<{origin}>")?;
            }
            let content = source.section(section.as_ref());
            let window = partial.map(|(origin, len)| (u64::from(origin), u64::from(len.get())));
            source.send(wire, content, window)
        }
        (Item::Rfc822, Some(source)) => {
            wire.write_all(b"RFC822")?;
            source.send(wire, source.section(None), None)
        }
        (Item::Rfc822Header, Some(source)) => {
            wire.write_all(b"RFC822.HEADER")?;
            source.send(wire, source.section(Some(&Section::Header(None))), None)
        }
        (Item::Rfc822Text, Some(source)) => {
            wire.write_all(b"RFC822.TEXT")?;
            source.send(wire, source.section(Some(&Section::Text(None))), None)
        }
        _ => Err(io::Error::other("an item without its file")),
    }
}

fn needs_file(item: &Item<'_>) -> bool {
    !matches!(item, Item::Uid | Item::Flags | Item::InternalDate | Item::Rfc822Size)
}

fn marks_seen(item: &Item<'_>) -> bool {
    matches!(item, Item::BodyExt { peek: false, .. } | Item::Rfc822 | Item::Rfc822Text)
}

fn needs_structure(item: &Item<'_>) -> bool {
    match item {
        Item::Body | Item::BodyStructure => true,
        Item::BodyExt { section: Some(section), .. } => match section {
            Section::Part(_) | Section::Mime(_) => true,
            Section::Header(part) | Section::Text(part) => part.is_some(),
            Section::HeaderFields(part, _) | Section::HeaderFieldsNot(part, _) => part.is_some(),
        },
        _ => false,
    }
}

impl Source {
    fn read(mut file: File, items: &[Item<'_>]) -> io::Result<Source> {
        let size = file.metadata()?.len();
        let only_whole = items
            .iter()
            .filter(|item| needs_file(item))
            .all(|item| matches!(item, Item::Rfc822 | Item::BodyExt { section: None, .. }));
        let root = match (items.iter().any(needs_structure), only_whole) {
            (true, _) => Some(mime::whole(&mut file)?),
            (false, true) => None,
            (false, false) => Some(mime::head(&mut file, size)?),
        };
        Ok(Source { file, size, root })
    }

    fn head(&self) -> &[u8] {
        self.root.as_ref().map_or(&[], |root| &root.head)
    }

    fn section(&self, section: Option<&Section<'_>>) -> Content {
        let (Some(section), Some(root)) = (section, &self.root) else { return Content::Place(0..self.size) };
        // HEADER, TEXT and HEADER.FIELDS of a part are those of the message in it.
        let message = |path: &Option<Path>| match path {
            None => Some(root),
            Some(path) => match &root.at(&numbers(path))?.inside {
                Inside::Message(inner) => Some(&**inner),
                _ => None,
            },
        };
        let place = |part: Option<&Part>, range: fn(&Part) -> Range<u64>| {
            part.map_or(Content::Nil, |part| Content::Place(range(part)))
        };
        match section {
            Section::Part(path) => place(root.at(&numbers(path)), |part| part.body.clone()),
            Section::Mime(path) => place(root.at(&numbers(path)), |part| part.header.clone()),
            Section::Header(path) => place(message(path), |part| part.header.clone()),
            Section::Text(path) => place(message(path), |part| part.body.clone()),
            Section::HeaderFields(path, names) => {
                message(path).map_or(Content::Nil, |part| chosen(&part.head, names.as_ref(), true))
            }
            Section::HeaderFieldsNot(path, names) => {
                message(path).map_or(Content::Nil, |part| chosen(&part.head, names.as_ref(), false))
            }
        }
    }

    /// Sends a space and the content as a literal, cut to the window (first byte, length).
    fn send(&mut self, wire: &mut Wire, content: Content, window: Option<(u64, u64)>) -> io::Result<()> {
        let (origin, most) = window.unwrap_or((0, u64::MAX));
        match content {
            Content::Nil => wire.write_all(b" NIL"),
            Content::Bytes(bytes) => {
                let from = usize::try_from(origin).unwrap_or(usize::MAX).min(bytes.len());
                let rest = bytes.get(from..).unwrap_or(&[]);
                let len = usize::try_from(most).unwrap_or(usize::MAX).min(rest.len());
                write!(wire, " {{{len}}}\r\n")?;
                wire.write_all(rest.get(..len).unwrap_or(rest))
            }
            Content::Place(range) => {
                let start = range.start.saturating_add(origin).min(range.end);
                let len = most.min(range.end - start);
                write!(wire, " {{{len}}}\r\n")?;
                self.file.seek(SeekFrom::Start(start))?;
                let sent = copy(&mut self.file, wire, len)?;
                match sent == len {
                    true => Ok(()),
                    // The literal's length is promised; there is no way to take it back.
                    false => Err(io::Error::other("the message's file was cut short")),
                }
            }
        }
    }
}

fn copy(file: &mut File, wire: &mut Wire, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; len.clamp(1, 256 * 1024) as usize];
    let mut left = len;
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        let room = buffer.get_mut(..want).unwrap_or(&mut []);
        let got = file.read(room)?;
        if got == 0 {
            break;
        }
        wire.write_all(room.get(..got).unwrap_or(&[]))?;
        left -= got as u64;
    }
    Ok(len - left)
}

/// The fields with these names, or all others, and the empty line.
fn chosen(head: &[u8], names: &[AString<'_>], wanted: bool) -> Content {
    let named =
        |field: &header::Field<'_>| names.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_ref()));
    let mut out: Vec<u8> = Vec::new();
    for field in header::fields(head).filter(|field| named(field) == wanted) {
        out.extend_from_slice(field.raw);
    }
    out.extend_from_slice(b"\r\n");
    Content::Bytes(out)
}

fn numbers(path: &Path) -> Vec<u32> {
    path.0.as_ref().iter().map(|number| number.get()).collect()
}

/// The section as the client wrote it.
fn label(section: Option<&Section<'_>>) -> String {
    let dotted = |path: &Path| numbers(path).iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let before =
        |path: &Option<Path>| path.as_ref().map(|path| format!("{}.", dotted(path))).unwrap_or_default();
    let list =
        |names: &[AString<'_>]| names.iter().map(|name| astring(name.as_ref())).collect::<Vec<_>>().join(" ");
    match section {
        None => String::new(),
        Some(Section::Part(path)) => dotted(path),
        Some(Section::Mime(path)) => format!("{}.MIME", dotted(path)),
        Some(Section::Header(path)) => format!("{}HEADER", before(path)),
        Some(Section::Text(path)) => format!("{}TEXT", before(path)),
        Some(Section::HeaderFields(path, names)) => {
            format!("{}HEADER.FIELDS ({})", before(path), list(names.as_ref()))
        }
        Some(Section::HeaderFieldsNot(path, names)) => {
            format!("{}HEADER.FIELDS.NOT ({})", before(path), list(names.as_ref()))
        }
    }
}

/// `17-Jul-1996 02:44:25 +0000`.
fn internal_date(date: SystemTime) -> String {
    jiff::Timestamp::try_from(date).unwrap_or_default().strftime("%d-%b-%Y %H:%M:%S +0000").to_string()
}
