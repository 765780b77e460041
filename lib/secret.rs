//! Passwords: fetched when they are needed, wiped when they are dropped, never shown.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::SecretSource;
use crate::error::{Error, Kind, Result};
use crate::process::{self, End, Job};

/// A password. `Debug` does not show it.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text over.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a secret)")
    }
}

/// Longer than any token; more is no password but a wrong file.
const LONGEST: u64 = 64 * 1024;

/// A command that asks somebody (pinentry) may take a while.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Fetches the secret. [`Kind::Config`] where it is missing or others may read it, [`Kind::Temporary`] where
/// its command fails: the network that it asks may be away, and no server has refused anything.
pub fn fetch(source: &SecretSource) -> Result<Secret> {
    match source {
        SecretSource::Literal(literal) => Ok(Secret::new(literal.0.clone())),
        SecretSource::File(path) => from_file(path),
        SecretSource::Command(words) | SecretSource::Token(words) => from_command(words),
        SecretSource::Credential(name) => from_credential(name),
    }
}

fn from_file(path: &Path) -> Result<Secret> {
    let failed = |why| Error::reading(path, why).context("password file").with_kind(Kind::Config);
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    // What is no file (a pipe of a process substitution) has no lasting readers.
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let what = format!("the password file {} can be read by others", path.display());
        return Err(Error::plain(Kind::Config, what).hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
    first_line(&text, &format!("password file {}", path.display()))
}

fn from_command(words: &[String]) -> Result<Secret> {
    let shown = words.first().map_or("", String::as_str);
    let job = Job {
        argv: words.iter().map(Into::into).collect(),
        env: None,
        limit: COMMAND_LIMIT,
        keep: LONGEST as usize,
        stderr_through: true,
    };
    let ran =
        process::run(&job).map_err(|error| error.context("password command").with_kind(Kind::Config))?;
    let output = Zeroizing::new(ran.output);
    let why = match ran.end {
        End::Exit(0) => return first_line(&output, &format!("password command {shown}")),
        End::Exit(status) => format!("it ended with status {status}"),
        End::Signal(signal) => format!("it was ended by signal {signal}"),
        End::TimedOut => format!("it took longer than {} s", COMMAND_LIMIT.as_secs()),
    };
    Err(Error::new(Kind::Temporary, format!("password command {shown} gave no password"), why))
}

fn from_credential(name: &str) -> Result<Secret> {
    let missing = || {
        Error::plain(Kind::Config, format!("no password for {name:?}"))
            .hint("give password_command, password_file, --password-file, or $CREDENTIALS_DIRECTORY")
    };
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(missing)?;
    let path = Path::new(&dir).join(name);
    let mut text = Zeroizing::new(Vec::new());
    std::fs::File::open(&path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
        .map_err(|why| Error::reading(&path, why).context("credential").with_kind(Kind::Config))?;
    first_line(&text, &format!("credential {}", path.display()))
}

fn first_line(bytes: &[u8], what: &str) -> Result<Secret> {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let wrong = |why: &str| Err(Error::new(Kind::Config, format!("{what} gave no password"), why));
    match std::str::from_utf8(line) {
        Ok("") => wrong("its first line is empty"),
        Ok(text) => Ok(Secret::new(text.to_string())),
        Err(_) => wrong("its first line is no UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_command() {
        let words = |line: &str| SecretSource::Command(line.split(' ').map(String::from).collect());
        assert_eq!(fetch(&words("printf a\\nb")).unwrap().reveal(), "a");
        assert_eq!(fetch(&words("false")).unwrap_err().status(), 75);
        assert_eq!(fetch(&words("/no/such")).unwrap_err().status(), 78);
        assert!(!format!("{:?}", fetch(&words("printf hunter2")).unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\r\nnote\n").unwrap();
        let source = SecretSource::File(file.path().into());
        assert_eq!(fetch(&source).unwrap().reveal(), "secret");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(fetch(&source).unwrap_err().status(), 78);
    }
}
