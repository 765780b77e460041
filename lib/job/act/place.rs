//! Which account and mailbox a message belongs to, by where it lies: what a record says of it proves nothing.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::mail::mailbox;
use crate::rules::Fact;

/// The Maildirs of a configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<(String, PathBuf)>);

impl Places {
    /// Those of every account that has one.
    pub fn of(config: &Config) -> Places {
        let accounts = config.account.iter();
        Places(accounts.filter_map(|(name, each)| Some((name.clone(), each.maildir.clone()?))).collect())
    }

    /// The account and the mailbox of the message file at `path`, which is there.
    pub fn find(&self, path: Option<&Path>) -> (Fact<String>, Fact<String>) {
        let unknown = |why: &str| (Err(why.to_string()), Err(why.to_string()));
        let Some(path) = path.and_then(|path| path.canonicalize().ok()) else {
            return unknown("its message cannot be found");
        };
        let found = self.0.iter().find_map(|(account, maildir)| {
            let inside = path.strip_prefix(maildir.canonicalize().ok()?).ok()?;
            Some((account, inside.to_path_buf()))
        });
        let Some((account, inside)) = found else {
            return unknown("its message lies in no account's Maildir");
        };
        let levels: Vec<&str> = inside.iter().filter_map(|level| level.to_str()).collect();
        let mailbox = match levels.as_slice() {
            ["new" | "cur", _] => Ok("INBOX".to_string()),
            [directory, "new" | "cur", _] if directory.starts_with('.') => Ok(name_of(directory)),
            _ => Err("its message lies in no mailbox".to_string()),
        };
        (Ok(account.clone()), mailbox)
    }
}

/// `.a.b&AC4-c` is `a/b.c`.
fn name_of(directory: &str) -> String {
    let levels = directory.trim_start_matches('.').split('.');
    levels.map(mailbox::from_wire).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_belongs_where_it_lies() {
        let temp = tempfile::tempdir().unwrap();
        let put = |rel: &str| {
            let path = temp.path().join(rel);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            path
        };
        let places = Places(vec![("school".into(), temp.path().join("Mail"))]);
        let find = |rel: &str| places.find(Some(&put(rel)));
        assert_eq!(find("Mail/cur/1:2,S"), (Ok("school".into()), Ok("INBOX".into())));
        assert_eq!(find("Mail/.Work.a&AC4-b/new/1").1, Ok("Work/a.b".into()));
        let (account, mailbox) = find("Mail/x");
        assert!(account.is_ok() && mailbox.is_err());
        assert!(find("Other/cur/1").0.is_err() && places.find(None).0.is_err());
    }
}
