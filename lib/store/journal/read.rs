//! Reading a journal without holding its lock, one line at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use super::line::{key_of, short};
use super::{Entry, JOURNAL, PLACE};
use crate::durable;
use crate::error::{Error, Result};
use crate::record::{self, RecordPath};
use crate::report;

/// The finished messages of `out` in the order in which they were first finished, as they were finished last; none
/// where there is no journal. Needs no lock, and reads one line at a time. A line that makes no sense is a line on
/// stderr, and the rest goes on.
pub fn entries(out: &Path) -> Result<impl Iterator<Item = Entry> + use<>> {
    let path = out.join(PLACE).join(JOURNAL);
    let lines = match path.exists() {
        true => {
            durable::check_private(&out.join(PLACE))?;
            last_lines(&path)?
        }
        false => None,
    };
    Ok(lines.into_iter().flat_map(move |(file, places)| {
        let path = path.clone();
        places.into_iter().filter_map(move |place| match read_line(&file, place) {
            Ok(entry) => Some(entry),
            Err(why) => {
                report::trouble(format_args!("cannot read a line of {}: {why}", path.display()));
                None
            }
        })
    }))
}

/// Where a line lies.
#[derive(Clone, Copy)]
struct Line {
    start: u64,
    length: usize,
}

/// The last line of each key.
fn last_lines(path: &Path) -> Result<Option<(File, Vec<Line>)>> {
    let failed = |why| Error::reading(path, why);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(why)),
    };
    let mut reader = BufReader::with_capacity(256 * 1024, &file);
    let (mut places, mut known) = (Vec::<Line>::new(), HashMap::new());
    let (mut line, mut start, mut number) = (Vec::new(), 0u64, 0u64);
    loop {
        number += 1;
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
        // What has no newline yet never became true.
        if line.pop() != Some(b'\n') {
            return Ok(Some((file, places)));
        }
        if !line.is_empty() {
            let place = Line { start, length: line.len() };
            match key_of(&line).map(|key| known.entry(short(&key))) {
                // The message it spoke of is pending again, and dissect will say anew what it held.
                None => {
                    report::trouble(format_args!("line {number} of {} is no journal entry", path.display()))
                }
                Some(std::collections::hash_map::Entry::Occupied(at)) => places[*at.get()] = place,
                Some(std::collections::hash_map::Entry::Vacant(at)) => {
                    at.insert(places.len());
                    places.push(place);
                }
            }
        }
        start += length as u64;
    }
}

fn read_line(file: &File, line: Line) -> io::Result<Entry> {
    let mut bytes = vec![0; line.length];
    file.read_exact_at(&mut bytes, line.start)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The file records of `out`, each with its message and its path below `out`, in the order in which they were
/// finished.
pub fn files(out: &Path) -> Result<impl Iterator<Item = record::File> + use<>> {
    let out = out.to_path_buf();
    Ok(entries(&out)?.flat_map(move |entry| {
        let (out, message) = (out.clone(), entry.message);
        entry.files.into_iter().filter_map(move |mut file| {
            file.path = RecordPath::from(below(&out, &file)?.as_path());
            file.message = Some(message.clone());
            Some(file)
        })
    }))
}

/// How long the journal of `out` is, to see whether there is something new in it; 0 where there is none.
pub fn size(out: &Path) -> u64 {
    std::fs::metadata(out.join(PLACE).join(JOURNAL)).map_or(0, |meta| meta.len())
}

/// Journals name files by one component, or two with a subdirectory; anything else did not come from us.
fn below(out: &Path, file: &record::File) -> Option<PathBuf> {
    let path = file.path.get()?;
    let count = path.components().count();
    let is_plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    (is_plain && (1..=2).contains(&count)).then(|| out.join(path))
}
