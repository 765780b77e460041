//! Messages that lie here already although the cursor does not know them: told by name or by digest.
//!
//! After a change of UIDVALIDITY every message has another UID; what we delivered under the old one is matched by
//! digest, as a multiset: two identical messages stay two. After a lost cursor the names themselves are the same.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::store::maildir::{self, Maildir, Name};

type Sum = [u8; 32];

/// What lies in a Maildir from one source.
#[derive(Default)]
pub(super) struct Known {
    /// Names under the present UIDVALIDITY.
    names: HashSet<String>,
    /// Files under another UIDVALIDITY, by their bytes.
    sums: HashMap<Sum, Vec<String>>,
}

impl Known {
    /// Looks through the Maildir; files in `matched` stand for another message already.
    pub fn of(maildir: &Maildir, source: &str, uidvalidity: u32, matched: &HashSet<String>) -> Result<Known> {
        let mut known = Known::default();
        for path in maildir.messages()? {
            let Some(text) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Ok(name) = text.parse::<Name>() else { continue };
            if name.source != source {
                continue;
            }
            let unique = maildir::unique(text).to_string();
            if name.uidvalidity == uidvalidity {
                known.names.insert(unique);
            } else if !matched.contains(&unique) {
                known.sums.entry(sum_of(&path)?).or_default().push(unique);
            }
        }
        Ok(known)
    }

    /// True if this message lies here already; if that is a file of an older UIDVALIDITY, its name goes to `matched`.
    pub fn has(&mut self, name: &str, file: &File, matched: &mut Vec<String>) -> Result<bool> {
        if self.names.remove(name) {
            return Ok(true);
        }
        if self.sums.is_empty() {
            return Ok(false);
        }
        let sum = sum(file).map_err(|why| Error::reading(name, why))?;
        let old = self.sums.get_mut(&sum).and_then(Vec::pop);
        let found = old.is_some();
        matched.extend(old);
        Ok(found)
    }
}

fn sum_of(path: &Path) -> Result<Sum> {
    File::open(path).and_then(|file| sum(&file)).map_err(|why| Error::reading(path, why))
}

fn sum(mut file: &File) -> io::Result<Sum> {
    file.rewind()?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            n => digest.update(&buffer[..n]),
        }
    }
}
