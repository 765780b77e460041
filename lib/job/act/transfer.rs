//! Moving or copying a file into a directory: durable, never over another file, and the same however often it is done.
//!
//! The name is the file's own; where other bytes have it, the name with ever more of the digest. Where the same bytes
//! lie there already, they are the file: so a move or copy that a crash cut short is simply done once more.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::durable::{self, Dir};
use crate::error::{Error, Kind, Result};
use crate::mail::name::SafeName;
use crate::record::hex;

/// A file on its way.
pub(super) struct Parcel<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// Of its bytes.
    pub sha256: &'a str,
    /// Tells it from every other that may be on its way at the same time.
    pub tag: &'a str,
}

impl Parcel<'_> {
    /// Moves it into `to`, which is made if it is missing; durable on return. Gives where it lies now.
    pub fn mv(&self, to: &Path) -> Result<PathBuf> {
        let (from, name) = self.source()?;
        let to = open(to)?;
        if is_same(&from, &to)? {
            return Ok(to.at(name));
        }
        for candidate in self.names() {
            match from.rename_new(&name, &to, &candidate) {
                Ok(()) => {
                    to.sync()?;
                    from.sync()?;
                    return Ok(to.at(candidate));
                }
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                    if self.is_held(&to, &candidate)? {
                        return self.forget_source(&from, &name, &to, &candidate);
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::CrossesDevices => {
                    let copied = self.copy(&to)?;
                    return self.forget_source(&from, &name, &to, &copied);
                }
                Err(why) => return Err(Error::creating(to.at(candidate), why)),
            }
        }
        Err(every_name_is_taken(&to, &name))
    }

    /// Copies it into `to`, which is made if it is missing; durable on return. Gives where the copy lies.
    pub fn cp(&self, to: &Path) -> Result<PathBuf> {
        let to = open(to)?;
        let name = self.copy(&to)?;
        Ok(to.at(name))
    }

    /// Where it lies in `to`, durable on return, if it does: what a move came to whose end nobody saw.
    pub fn found(&self, to: &Path) -> Result<Option<PathBuf>> {
        let Ok(to) = Dir::open(to) else { return Ok(None) };
        for name in self.names() {
            if self.is_held(&to, &name)? {
                make_durable(&to, &name)?;
                return Ok(Some(to.at(name)));
            }
        }
        Ok(None)
    }

    fn source(&self) -> Result<(Dir, OsString)> {
        let name = self
            .path
            .file_name()
            .ok_or_else(|| Error::plain(Kind::NoInput, format!("{} has no name", self.path.display())))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Dir::open(parent.unwrap_or(Path::new(".")))?, name.to_os_string()))
    }

    fn names(&self) -> Vec<OsString> {
        let name = self.path.file_name().unwrap_or_default();
        let safe = SafeName::new(Some(&name.to_string_lossy()), None);
        let digits = [8, 16, 64].into_iter().filter_map(|digits| self.sha256.get(..digits));
        let longer = digits.map(|digits| OsString::from(safe.with_digest(digits).as_str()));
        std::iter::once(name.to_os_string()).chain(longer).collect()
    }

    /// True if these bytes lie under that name; never looks through a link.
    fn is_held(&self, dir: &Dir, name: &OsStr) -> Result<bool> {
        match dir.open_file(name) {
            Ok(mut file) => {
                let digest = digest(&mut file, &mut io::sink());
                Ok(digest.map_err(|why| Error::reading(dir.at(name), why))? == self.sha256)
            }
            Err(_) => Ok(false),
        }
    }

    /// The bytes lie under another name, durable once that directory is synced: the source can go.
    fn forget_source(&self, from: &Dir, name: &OsStr, to: &Dir, found: &OsStr) -> Result<PathBuf> {
        make_durable(to, found)?;
        from.remove(name).map_err(|why| Error::writing(self.path, why))?;
        from.sync()?;
        Ok(to.at(found))
    }

    fn copy(&self, to: &Dir) -> Result<OsString> {
        let aside = format!(".mailloop-{}", self.tag);
        // What an earlier try left; nobody else uses this tag now.
        to.remove(&aside).map_err(|why| Error::writing(to.at(&aside), why))?;
        let names = self.names();
        for name in &names {
            if self.is_held(to, name)? {
                make_durable(to, name)?;
                return Ok(name.clone());
            }
        }
        let written = self.write(to, &aside).and_then(|()| self.name_copy(to, &aside, &names));
        if written.is_err() {
            let _ = to.remove(&aside);
        }
        written
    }

    fn write(&self, to: &Dir, aside: &str) -> Result<()> {
        let failed = |why| Error::writing(to.at(aside), why);
        let mut source = File::open(self.path).map_err(|why| Error::reading(self.path, why))?;
        let mode = source.metadata().map_err(|why| Error::reading(self.path, why))?.permissions().mode();
        let mut copy =
            to.create_new(aside, mode & 0o777).map_err(|why| Error::creating(to.at(aside), why))?;
        if digest(&mut source, &mut copy).map_err(failed)? != self.sha256 {
            let doing = format!("cannot copy {}", self.path.display());
            return Err(Error::new(Kind::Data, doing, "it was changed meanwhile"));
        }
        durable::sync(&copy).map_err(failed)
    }

    fn name_copy(&self, to: &Dir, aside: &str, names: &[OsString]) -> Result<OsString> {
        for name in names {
            match to.rename_new(aside, to, name) {
                Ok(()) => {
                    to.sync()?;
                    return Ok(name.clone());
                }
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(Error::creating(to.at(name), why)),
            }
        }
        Err(every_name_is_taken(to, self.path.file_name().unwrap_or_default()))
    }
}

/// Somebody else may have put it there and not waited for the disk.
fn make_durable(dir: &Dir, name: &OsStr) -> Result<()> {
    let file = dir.open_file(name).map_err(|why| Error::reading(dir.at(name), why))?;
    durable::sync(&file).map_err(|why| Error::writing(dir.at(name), why))?;
    dir.sync()
}

/// Files that are moved follow the umask, and so do the directories made for them.
fn open(path: &Path) -> Result<Dir> {
    Dir::create(path, 0o777)
}

fn is_same(one: &Dir, other: &Dir) -> Result<bool> {
    let identity = |dir: &Dir| {
        let meta = std::fs::metadata(dir.path()).map_err(|why| Error::reading(dir.path(), why))?;
        Ok((meta.dev(), meta.ino()))
    };
    Ok(identity(one)? == identity(other)?)
}

fn every_name_is_taken(dir: &Dir, name: &OsStr) -> Error {
    let doing = format!("cannot create {}", dir.at(name).display());
    Error::new(Kind::CannotCreate, doing, "every name for it is taken")
}

/// The digest of what is read, written on to `out`.
fn digest(from: &mut impl Read, out: &mut impl Write) -> io::Result<String> {
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(read) => {
                digest.update(&chunk[..read]);
                out.write_all(&chunk[..read])?;
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> (tempfile::TempDir, String) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("a.pdf"), "one").unwrap();
        (temp, hex(&Sha256::digest("one")))
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let (temp, sha256) = fixture();
        let (path, to) = (temp.path().join("a.pdf"), temp.path().join("x/y"));
        let parcel = Parcel { path: &path, sha256: &sha256, tag: "t" };
        assert_eq!(parcel.cp(&to).unwrap(), to.join("a.pdf"));
        assert_eq!(parcel.cp(&to).unwrap(), to.join("a.pdf"));
        std::fs::write(to.join("a.pdf"), "other").unwrap();
        std::fs::write(to.join(".mailloop-t"), "left by a crash").unwrap();
        let longer = to.join(format!("a-{}.pdf", &sha256[..8]));
        assert_eq!(parcel.cp(&to).unwrap(), longer);
        assert_eq!(parcel.found(&to).unwrap(), Some(longer.clone()));
        assert_eq!(parcel.mv(&to).unwrap(), longer);
        assert!(!path.exists());
        assert_eq!(std::fs::read(to.join("a.pdf")).unwrap(), b"other");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 2);
    }

    #[test]
    fn moving_it_to_where_it_lies_keeps_it() {
        let (temp, sha256) = fixture();
        let path = temp.path().join("a.pdf");
        let parcel = Parcel { path: &path, sha256: &sha256, tag: "t" };
        assert_eq!(parcel.mv(&temp.path().join(".")).unwrap(), temp.path().join("./a.pdf"));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        // A link there is no file of ours.
        std::fs::create_dir(temp.path().join("to")).unwrap();
        std::os::unix::fs::symlink(&path, temp.path().join("to/a.pdf")).unwrap();
        assert!(
            parcel
                .mv(&temp.path().join("to"))
                .unwrap()
                .to_string_lossy()
                .ends_with(&format!("a-{}.pdf", &sha256[..8]))
        );
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_not_copied() {
        let (temp, _) = fixture();
        let path = temp.path().join("a.pdf");
        let parcel = Parcel { path: &path, sha256: "00", tag: "t" };
        assert_eq!(parcel.cp(&temp.path().join("to")).unwrap_err().status(), 65);
        assert_eq!(std::fs::read_dir(temp.path().join("to")).unwrap().count(), 0);
    }
}
