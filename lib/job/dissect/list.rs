//! Looking without writing: which parts a message has, what would be written, and one part on standard output.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::Options;
use super::bytes::{Bytes, Spill};
use super::items::Item;
use super::messages::{self, Job, Source};
use super::select::{Looks, Numbers};
use super::take::describe;
use crate::error::{Error, Kind, Result, Status};
use crate::mail::decode;
use crate::mail::name::SafeName;
use crate::mail::part::{Part, Tree};
use crate::mail::sniff;
use crate::record::{self, RecordPath, hex};
use crate::report::{self, Form, Records};
use crate::stop;

/// What is told of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Every part of every message, on standard output: a tree, or records of state `listed`.
    Tree,
    /// What is selected and would be written, on standard error, or as records of state `selected`: nothing that a
    /// program behind us could take for a file that is there.
    DryRun,
}

/// Tells of the parts of each item's messages; writes no file.
pub fn list(
    options: &Options,
    view: View,
    items: impl IntoIterator<Item = Result<Item>>,
    records: &mut Records<'_>,
) -> Result<Status> {
    let mut numbers = Numbers::new(&options.select);
    let mut status = each(items, &mut |job, status| {
        let bytes = open(&job).inspect_err(|_| numbers.pass())?;
        let bytes = bytes.slice();
        let mut shelf = Spill::new(std::env::temp_dir());
        let tree = Tree::parse_onto(bytes, &options.limits, &mut shelf);
        numbers.read(&options.select.numbers(&tree));
        let message =
            record::Message { sha256: Some(hex(&Sha256::digest(bytes))), ..describe(job.record, bytes) };
        let (json, form) = (records.is_json(), records.form());
        if view == View::Tree && !json {
            let subject = message.subject.as_deref().unwrap_or_default();
            records.text(format!(
                "{}  {}{}",
                report::printable(&job.shown),
                report::printable(subject),
                end(form)
            ))?;
        }
        for part in &tree.parts {
            let looks = looks(&tree, part);
            let selected = options.select.takes(part, &looks);
            if view == View::DryRun && !selected {
                continue;
            }
            let record = record_of(&tree, part, looks, view)?;
            if json {
                records.json(&record::File { message: Some(message.clone()), ..record })?;
            } else if view == View::Tree {
                records.text(format!("{}{}", line(part, &record, selected), end(form)))?;
            } else {
                let name = record.other.get("safe").and_then(|name| name.as_str()).unwrap_or_default();
                let path = options.out.join(name);
                report::trouble(format_args!(
                    "would write {} (part {}, {} bytes)",
                    path.display(),
                    part.number,
                    record.size
                ));
            }
        }
        for note in tree.notes.iter().chain(&tree.closed) {
            report::say(format_args!("{}: {note}", job.shown));
        }
        if let Some(cut) = &tree.cut {
            let doing = format!("cannot see all of {}", job.shown);
            let error = Error::new(Kind::Data, doing, cut);
            report::trouble(&error);
            status.add(error.kind());
        }
        Ok(())
    })?;
    records.flush()?;
    if !stop::requested()
        && let Some(error) = numbers.error()
    {
        report::trouble(&error);
        status.add(error.kind());
    }
    Ok(status)
}

/// Writes the one part that is selected to `out`. More than one is a usage error that names them; none is 66.
pub fn print(
    options: &Options,
    items: impl IntoIterator<Item = Result<Item>>,
    out: &mut dyn Write,
) -> Result<Status> {
    let mut printed = false;
    let status = each(items, &mut |job, status| {
        let bytes = open(&job)?;
        let mut shelf = Spill::new(std::env::temp_dir());
        let tree = Tree::parse_onto(bytes.slice(), &options.limits, &mut shelf);
        let chosen: Vec<&Part> =
            tree.parts.iter().filter(|part| options.select.takes(part, &looks(&tree, part))).collect();
        let doing = || format!("cannot print a part of {}", job.shown);
        let part = match chosen.as_slice() {
            [part] if !printed => *part,
            [] => return Err(Error::new(Kind::NoInput, doing(), "it has no such part").hint("see --list")),
            [_] => return Err(Error::new(Kind::Usage, doing(), "only one message can be printed")),
            many => {
                let numbers: Vec<_> = many.iter().map(|part| part.number.as_str()).collect();
                let why = format!("parts {} are selected", numbers.join(", "));
                return Err(Error::new(Kind::Usage, doing(), why).hint("choose one with --part"));
            }
        };
        printed = true;
        let decoded =
            match decode::decode(&part.encoding, tree.body(part), &mut &mut *out).and_then(|decoded| {
                out.flush()?;
                Ok(decoded)
            }) {
                Ok(decoded) => decoded,
                Err(why) if why.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(why) => return Err(Error::writing("standard output", why)),
            };
        for note in &decoded.notes {
            report::say(format_args!("{}: part {}: {note}", job.shown, part.number));
        }
        if options.strict && !decoded.notes.is_empty() {
            status.add(Kind::Data);
        }
        Ok(())
    })?;
    Ok(status)
}

/// Does something with each message; what fails is a line on stderr.
fn each(
    items: impl IntoIterator<Item = Result<Item>>,
    act: &mut dyn FnMut(Job, &mut Status) -> Result<()>,
) -> Result<Status> {
    let mut status = Status::DONE;
    for item in items {
        let mut one = |job: Result<Job>| {
            if let Err(error) = job.and_then(|job| act(job, &mut status)) {
                report::trouble(&error);
                status.add(error.kind());
            }
            Ok(!stop::requested())
        };
        match item {
            Ok(item) => messages::messages(item, &mut one)?,
            Err(error) => drop(one(Err(error))?),
        }
        if stop::requested() {
            break;
        }
    }
    Ok(status)
}

enum Opened {
    Own(Bytes),
    Shared(std::sync::Arc<Bytes>, std::ops::Range<usize>),
}

impl Opened {
    fn slice(&self) -> &[u8] {
        match self {
            Opened::Own(bytes) => bytes.as_ref(),
            Opened::Shared(bytes, range) => &(**bytes).as_ref()[range.clone()],
        }
    }
}

fn open(job: &Job) -> Result<Opened> {
    Ok(match &job.source {
        Source::Path(path) => Opened::Own(Bytes::of_file(path)?),
        Source::Bytes(bytes, range) => Opened::Shared(bytes.clone(), range.clone()),
    })
}

fn looks(tree: &Tree, part: &Part) -> Looks {
    Looks::of(tree, part, &decode::decode_head(&part.encoding, tree.body(part), sniff::HEAD))
}

/// The record of a part, decoded for its size and digest and then forgotten.
fn record_of(tree: &Tree, part: &Part, looks: Looks, view: View) -> Result<record::File> {
    let mut sink = Hash(Sha256::new());
    let decoded = decode::decode(&part.encoding, tree.body(part), &mut sink)
        .map_err(|why| Error::new(Kind::Internal, format!("cannot decode part {}", part.number), why))?;
    let mut notes = part.notes.clone();
    notes.extend(decoded.notes.into_iter().filter(|note| !part.notes.contains(note)));
    if looks.is_false_pdf(part) {
        notes.push("called a PDF and is none".to_string());
    }
    let extension = sniff::extension(looks.kind, &part.said);
    let safe = SafeName::new(looks.sent.as_ref().map(|sent| sent.path.as_str()), extension);
    let mut record = record::File {
        state: if view == View::Tree { "listed" } else { "selected" }.into(),
        path: RecordPath(None),
        name: looks.sent.map(|sent| sent.text),
        media_type: Some(looks.media_type),
        said: Some(part.said.clone()),
        part: Some(part.number.clone()),
        size: decoded.size,
        sha256: hex(&sink.0.finalize()),
        notes,
        ..record::File::fresh()
    };
    record.other.insert("safe".into(), safe.as_str().into());
    Ok(record)
}

struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `  2.1  application/pdf  12345  hw1.pdf  (notes)`, indented by depth; `*` marks what is selected.
fn line(part: &Part, record: &record::File, selected: bool) -> String {
    let media_type = record.media_type.as_deref().unwrap_or_default();
    let mark = if selected { '*' } else { ' ' };
    let indent = "  ".repeat(part.depth.min(40));
    let mut line =
        format!("{mark} {indent}{}  {}  {}", part.number, report::printable(media_type), record.size);
    if let Some(name) = &record.name {
        line += &format!("  {}", report::printable(name));
    }
    if !record.notes.is_empty() {
        line += &format!("  ({})", report::printable(&record.notes.join("; ")));
    }
    line
}

fn end(form: Form) -> &'static str {
    if form == Form::Nul { "\0" } else { "" }
}
