//! Reading a journal without holding its lock, one line at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
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
    Ok(entries_since(out, None)?.1)
}

/// How far a journal was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Device and inode.
    file: (u64, u64),
    end: u64,
}

/// What was finished since the mark was made, or all of it where this is not the journal that it was made in any more;
/// and a mark for the next time.
fn entries_since(out: &Path, since: Option<Mark>) -> Result<(Mark, impl Iterator<Item = Entry> + use<>)> {
    let path = out.join(PLACE).join(JOURNAL);
    let lines = match path.exists() {
        true => {
            durable::check_private(&out.join(PLACE))?;
            last_lines(&path, since)?
        }
        false => None,
    };
    let mark = lines.as_ref().map_or(Mark::default(), |(_, _, mark)| *mark);
    let entries =
        lines.into_iter().map(|(file, places, _)| (file, places)).flat_map(move |(file, places)| {
            let path = path.clone();
            places.into_iter().filter_map(move |place| match read_line(&file, place) {
                Ok(entry) => Some(entry),
                Err(why) => {
                    report::trouble(format_args!("cannot read a line of {}: {why}", path.display()));
                    None
                }
            })
        });
    Ok((mark, entries))
}

/// Where a line lies.
#[derive(Clone, Copy)]
struct Line {
    start: u64,
    length: usize,
}

/// The last line of each key, of those after the mark.
fn last_lines(path: &Path, since: Option<Mark>) -> Result<Option<(File, Vec<Line>, Mark)>> {
    let failed = |why| Error::reading(path, why);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(why)),
    };
    let meta = file.metadata().map_err(failed)?;
    let is = (meta.dev(), meta.ino());
    let begin = since.filter(|mark| mark.file == is && mark.end <= meta.len()).map_or(0, |mark| mark.end);
    let mut reader = BufReader::with_capacity(256 * 1024, &file);
    reader.seek(io::SeekFrom::Start(begin)).map_err(failed)?;
    let (mut places, mut known) = (Vec::<Line>::new(), HashMap::new());
    let (mut line, mut start) = (Vec::new(), begin);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
        // What has no newline yet never became true.
        if line.pop() != Some(b'\n') {
            return Ok(Some((file, places, Mark { file: is, end: start })));
        }
        if !line.is_empty() {
            let place = Line { start, length: line.len() };
            match key_of(&line).map(|key| known.entry(short(&key))) {
                // The message it spoke of is pending again, and dissect will say anew what it held.
                None => report::trouble(format_args!(
                    "the line at byte {start} of {} is no journal entry",
                    path.display()
                )),
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
    Ok(files_since(out, None)?.1)
}

/// As [`files`], but only what was finished since the mark was made, or all where this is another journal by now; and a
/// mark for the next time. What was finished anew since then is given again.
pub fn files_since(
    out: &Path,
    since: Option<Mark>,
) -> Result<(Mark, impl Iterator<Item = record::File> + use<>)> {
    let out = out.to_path_buf();
    let (mark, entries) = entries_since(&out, since)?;
    let files = entries.flat_map(move |entry| {
        let (out, message) = (out.clone(), entry.message);
        entry.files.into_iter().filter_map(move |mut file| {
            file.path = RecordPath::from(below(&out, &file)?.as_path());
            file.message = Some(message.clone());
            Some(file)
        })
    });
    Ok((mark, files))
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
