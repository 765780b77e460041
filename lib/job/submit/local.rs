//! Delivery into a Maildir on this machine: for `local:` ways and for notices to the sender.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::durable;
use crate::error::{Error, Result};
use crate::store::maildir::{self, Maildir};

/// Delivers one message; durable on return. `unique` names it: what was delivered under the same name before is not
/// delivered again, also if its reader moved it meanwhile.
pub fn deliver(path: &Path, unique: &str, message: &mut dyn Read) -> Result<PathBuf> {
    let maildir = Maildir::create(path)?;
    let source = maildir::source("mailloop", unique);
    let base = format!("L{source}");
    if let Some(there) = find(&maildir, &base) {
        return Ok(there);
    }
    // Only an earlier attempt at the same message can have left this name.
    let _ = maildir.discard(&format!("mailloop.{source}.0"));
    let (temporary, mut file) =
        maildir.begin(&source, 0).map_err(|why| Error::creating(maildir.dir.at("tmp"), why))?;
    let written = |why| Error::writing(maildir.dir.at(&temporary), why);
    let size = durable::step("write", || io::copy(message, &mut file)).map_err(written)?;
    file.flush().and_then(|()| durable::sync(&file)).map_err(written)?;
    let name = format!("{}.{base}.mailloop,S={size}", Timestamp::now().as_second());
    maildir.deliver(&temporary, &name, "")?;
    maildir.sync(false)?;
    Ok(maildir.path_of(&name, ""))
}

fn find(maildir: &Maildir, base: &str) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.split('.').nth(1)).is_some_and(|word| word == base)
    };
    maildir.messages().ok()?.find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_also_after_it_was_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = deliver(temp.path(), "a", &mut &b"x"[..]).unwrap();
        let read =
            temp.path().join("cur").join(format!("{}:2,S", path.file_name().unwrap().to_string_lossy()));
        std::fs::rename(&path, &read).unwrap();
        assert_eq!(deliver(temp.path(), "a", &mut &b"x"[..]).unwrap(), read);
        deliver(temp.path(), "b", &mut &b"x"[..]).unwrap();
        assert_eq!(Maildir::open(temp.path()).unwrap().messages().unwrap().len(), 2);
    }
}
