//! The file `uidlist` beside the messages: which file has which UID, and its keywords. Readable, append-only.
//!
//! ```text
//! mailloop-uidlist 1 uidvalidity 1763766000 uidnext 1
//! 1 1763766000.V1763766000U1.sandbox,S=2048
//! 2 1763766001.V1763766000U2.sandbox,S=512
//! 2 1763766001.V1763766000U2.sandbox,S=512 $Forwarded
//! ```
//!
//! A later line for a UID replaces the earlier one; a line whose file is gone only keeps its UID from being used
//! again. Appends are not synced: the names that this server gives hold the UID too, so a lost line is found again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What a line says.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub base: String,
    pub keywords: Vec<String>,
}

/// The file, open for appending.
#[derive(Debug)]
pub struct UidList {
    file: File,
}

/// What was read at open.
#[derive(Debug)]
pub struct Listed {
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub entries: BTreeMap<u32, Entry>,
}

const MAGIC: &str = "mailloop-uidlist 1 uidvalidity ";

/// Reads the list in `dir`; `None` if there is none, or none that can be understood (then all UIDs are void).
pub fn read(dir: &Path) -> io::Result<Option<Listed>> {
    let text = match fs::read(dir.join("uidlist")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let mut lines = text.split_inclusive('\n');
    let head = lines.next().and_then(|line| line.trim_end().strip_prefix(MAGIC));
    let Some((validity, next)) = head.and_then(|head| head.split_once(" uidnext ")) else { return Ok(None) };
    let (Ok(uidvalidity), Ok(uidnext)) = (validity.parse::<u32>(), next.parse::<u32>()) else {
        return Ok(None);
    };
    let mut listed = Listed { uidvalidity, uidnext, entries: BTreeMap::new() };
    for line in lines.filter(|line| line.ends_with('\n')) {
        let mut words = line.split_whitespace();
        let (Some(Ok(uid)), Some(base)) = (words.next().map(str::parse::<u32>), words.next()) else {
            continue;
        };
        let entry = Entry { base: unescape(base), keywords: words.map(str::to_string).collect() };
        listed.uidnext = listed.uidnext.max(uid.saturating_add(1));
        listed.entries.insert(uid, entry);
    }
    Ok(Some(listed))
}

impl UidList {
    /// Opens the list for appending.
    pub fn open(dir: &Path) -> io::Result<UidList> {
        Ok(UidList { file: OpenOptions::new().append(true).open(dir.join("uidlist"))? })
    }

    /// Writes the list anew, synced and renamed into place.
    pub fn write<'a>(
        dir: &Path,
        uidvalidity: u32,
        uidnext: u32,
        entries: impl Iterator<Item = (u32, &'a str, &'a [String])>,
    ) -> io::Result<UidList> {
        let aside = dir.join("uidlist.new");
        let mut out = io::BufWriter::new(File::create(&aside)?);
        writeln!(out, "{MAGIC}{uidvalidity} uidnext {uidnext}")?;
        for (uid, base, keywords) in entries {
            out.write_all(line(uid, base, keywords).as_bytes())?;
        }
        out.into_inner()?.sync_all()?;
        fs::rename(&aside, dir.join("uidlist"))?;
        UidList::open(dir)
    }

    /// Appends lines in one write.
    pub fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = (u32, &'a str, &'a [String])>,
    ) -> io::Result<()> {
        let text: String = entries.map(|(uid, base, keywords)| line(uid, base, keywords)).collect();
        self.file.write_all(text.as_bytes())
    }
}

fn line(uid: u32, base: &str, keywords: &[String]) -> String {
    let mut line = format!("{uid} {}", escape(base));
    for keyword in keywords {
        line.push(' ');
        line.push_str(keyword);
    }
    line.push('\n');
    line
}

fn escape(base: &str) -> String {
    let mut out = String::with_capacity(base.len());
    for c in base.chars() {
        match c.is_whitespace() || c == '%' {
            true => c.to_string().bytes().for_each(|b| out.push_str(&format!("%{b:02x}"))),
            false => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (b, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = tail.get(2..).unwrap_or(&[]);
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let none: [(u32, &str, &[String]); 0] = [];
        let mut list = UidList::write(dir.path(), 77, 5, none.into_iter()).unwrap();
        let keywords = ["$Done".to_string()];
        list.append([(5, "a b%c", &keywords[..]), (6, "x", &[])].into_iter()).unwrap();
        list.append([(5, "a b%c", &[][..])].into_iter()).unwrap();
        list.file.write_all(b"9 torn").unwrap();
        let listed = read(dir.path()).unwrap().unwrap();
        assert_eq!((listed.uidvalidity, listed.uidnext), (77, 7));
        assert_eq!(listed.entries[&5].base, "a b%c");
        assert!(listed.entries[&5].keywords.is_empty());
    }
}
