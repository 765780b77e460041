//! The one error: what we were doing, to what, why it failed, and of which kind it is.
//!
//! The kind alone decides the exit status and whether trying again makes sense;
//! nobody else does. Statuses are those of `sysexits.h` (BSD), with 75 for "try again later".

use std::fmt;
use std::io;
use std::path::Path;

/// `Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed, in the classes that a caller acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The command line was wrong (64).
    Usage,
    /// Mail data is damaged so that something selected could not be saved (65).
    Data,
    /// An input file is missing or unreadable (66).
    NoInput,
    /// The peer refused for good: a 5xx reply, an unknown recipient (69).
    Refused,
    /// A fault of ours (70).
    Internal,
    /// An output file or directory cannot be created (73).
    CannotCreate,
    /// Reading or writing failed, a full disk included (74).
    Io,
    /// Worth trying again later: network, name look-up, 4xx, a lock that is held (75).
    Temporary,
    /// The peer broke the protocol or showed a wrong certificate (76).
    Protocol,
    /// Nobody knows whether the peer took it: the line died after the final dot (76).
    Unknown,
    /// Login or permission refused (77).
    Denied,
    /// The configuration, or who may read it, is wrong (78).
    Config,
}

impl Kind {
    /// The exit status for a program that ends because of this.
    pub fn status(self) -> u8 {
        match self {
            Kind::Usage => 64,
            Kind::Data => 65,
            Kind::NoInput => 66,
            Kind::Refused => 69,
            Kind::Internal => 70,
            Kind::CannotCreate => 73,
            Kind::Io => 74,
            Kind::Temporary => 75,
            Kind::Protocol | Kind::Unknown => 76,
            Kind::Denied => 77,
            Kind::Config => 78,
        }
    }

    /// True if the same request may succeed later without anybody changing anything.
    pub fn is_temporary(self) -> bool {
        self == Kind::Temporary
    }
}

/// The table of statuses, as the README and the manuals print it.
pub const STATUSES: &[(u8, &str)] = &[
    (0, "done, also when there was nothing to do"),
    (64, "the command line was wrong"),
    (65, "mail data is damaged and something selected could not be saved"),
    (66, "an input is missing or cannot be read"),
    (69, "refused for good by the other side"),
    (70, "a fault of ours; please report it"),
    (73, "an output cannot be created"),
    (74, "reading or writing failed; a full disk too"),
    (75, "try again later: network, name look-up, 4xx reply, lock held"),
    (76, "the other side broke the protocol, showed a wrong certificate, or left a message's fate unknown"),
    (77, "login or permission refused"),
    (78, "the configuration is wrong"),
];

/// What we were doing, why it failed, and perhaps what to do about it.
///
/// `Display` gives one line: `cannot open a.pdf: No such file or directory; check the name`.
pub struct Error {
    kind: Kind,
    doing: String,
    why: String,
    hint: Option<String>,
}

impl Error {
    /// `doing` names the act and its object (`cannot read x.pdf`), `why` the cause.
    pub fn new(kind: Kind, doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Error { kind, doing: doing.into(), why: why.to_string(), hint: None }
    }

    /// An error whose text says all of it already.
    pub fn plain(kind: Kind, text: impl Into<String>) -> Self {
        Error { kind, doing: text.into(), why: String::new(), hint: None }
    }

    /// Adds what the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a wider act in front: `fetching school: cannot log in: …`.
    pub fn context(mut self, wider: impl fmt::Display) -> Self {
        self.doing = format!("{wider}: {}", self.doing);
        self
    }

    /// The same error in another class.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// An input could not be read: missing or forbidden is [`Kind::NoInput`], the rest [`Kind::Io`].
    pub fn reading(path: impl AsRef<Path>, why: io::Error) -> Self {
        let kind = match why.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory => Kind::NoInput,
            _ => Kind::Io,
        };
        Error::new(kind, format!("cannot read {}", path.as_ref().display()), os_text(&why))
    }

    /// An output could not be created: [`Kind::CannotCreate`], or [`Kind::Io`] where the disk is full or broken.
    pub fn creating(path: impl AsRef<Path>, why: io::Error) -> Self {
        let kind = match why.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::AlreadyExists => Kind::CannotCreate,
            _ => Kind::Io,
        };
        Error::new(kind, format!("cannot create {}", path.as_ref().display()), os_text(&why))
    }

    /// Writing, syncing or renaming failed: [`Kind::Io`].
    pub fn writing(path: impl AsRef<Path>, why: io::Error) -> Self {
        Error::new(Kind::Io, format!("cannot write {}", path.as_ref().display()), os_text(&why))
    }

    /// Talking to `peer` failed: [`Kind::Temporary`].
    pub fn network(doing: impl Into<String>, why: io::Error) -> Self {
        let text = match why.kind() {
            // A read timeout of a socket surfaces as EAGAIN on Linux.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "no answer within the time limit".to_string()
            }
            io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_string(),
            _ => os_text(&why),
        };
        Error::new(Kind::Temporary, doing, text)
    }

    /// The class of this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit status for a program that ends because of this.
    pub fn status(&self) -> u8 {
        self.kind.status()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl std::error::Error for Error {}

/// Without the ` (os error 28)` that std appends.
fn os_text(why: &io::Error) -> String {
    let text = why.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

/// The exit status of a run over many items: any 75 wins, else the first other one that is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// Nothing went wrong so far.
    pub const DONE: Status = Status(0);

    /// Takes in one item's trouble.
    pub fn add(&mut self, kind: Kind) {
        if self.0 == 0 || kind.status() == 75 {
            self.0 = kind.status();
        }
    }

    /// Takes in another run's status.
    pub fn merge(&mut self, other: Status) {
        if other.0 != 0 && (self.0 == 0 || other.0 == 75) {
            self.0 = other.0;
        }
    }

    /// As a number for `exit`.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Kind> for Status {
    fn from(kind: Kind) -> Self {
        Status(kind.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_wins_else_the_first() {
        let mut status = Status::DONE;
        status.add(Kind::Data);
        status.add(Kind::Refused);
        assert_eq!(status.code(), 65);
        status.add(Kind::Temporary);
        status.add(Kind::Io);
        assert_eq!(status.code(), 75);
    }

    #[test]
    fn one_line_without_os_numbers() {
        let error = Error::reading("a.pdf", io::Error::from_raw_os_error(2)).hint("check the name");
        assert_eq!(error.to_string(), "cannot read a.pdf: No such file or directory; check the name");
        assert_eq!(error.status(), 66);
    }

    #[test]
    fn every_kind_stands_in_the_table() {
        for kind in [
            Kind::Usage,
            Kind::Data,
            Kind::NoInput,
            Kind::Refused,
            Kind::Internal,
            Kind::CannotCreate,
            Kind::Io,
            Kind::Temporary,
            Kind::Protocol,
            Kind::Unknown,
            Kind::Denied,
            Kind::Config,
        ] {
            assert!(STATUSES.iter().any(|(status, _)| *status == kind.status()));
        }
    }
}
