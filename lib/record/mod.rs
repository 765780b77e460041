//! The records that the programs print and read with `--json`: one JSON object a line, `"v":1`.
//!
//! A value that is not known is null. Fields that we do not know pass through. A path that is no UTF-8 is
//! `"path_hex"` instead of `"path"`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::mail::class::Class;

mod path;
pub use path::{RecordPath, hex, unhex};

/// The version of the record format.
pub const VERSION: u8 = 1;

/// A message in a Maildir, or one that was passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Format version.
    pub v: u8,
    /// Always `message`.
    pub kind: String,
    /// `delivered` or `skipped`.
    pub state: String,
    /// Where it lies; null when skipped.
    #[serde(flatten)]
    pub path: RecordPath,
    /// Of the exact bytes, hex; null where it was not computed.
    pub sha256: Option<String>,
    /// In bytes.
    pub size: Option<u64>,
    /// The account it came from.
    pub account: Option<String>,
    /// The mailbox it came from.
    pub mailbox: Option<String>,
    /// With `uid`, what identifies it on the server (RFC 9051 section 2.3.1.1).
    pub uidvalidity: Option<u32>,
    /// See `uidvalidity`.
    pub uid: Option<u32>,
    /// As it stands in the header, with its angle brackets.
    pub message_id: Option<String>,
    /// The addresses in From.
    pub from: Vec<String>,
    /// The addresses in To.
    pub to: Vec<String>,
    /// Decoded.
    pub subject: Option<String>,
    /// The Date field as RFC 3339 with the sender's offset.
    pub date: Option<String>,
    /// When the server received it (INTERNALDATE), RFC 3339 in UTC.
    pub received: Option<String>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// What somebody else put there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A file that came out of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Format version.
    pub v: u8,
    /// Always `file`.
    pub kind: String,
    /// `written`, or `present` where the same bytes lay there already.
    pub state: String,
    /// Where it lies.
    #[serde(flatten)]
    pub path: RecordPath,
    /// As the sender called it.
    pub name: Option<String>,
    /// By its bytes.
    #[serde(rename = "type")]
    pub media_type: Option<String>,
    /// What the message said its type was.
    pub said: Option<String>,
    /// Its part number (RFC 9051 section 6.4.5), `2.1`.
    pub part: Option<String>,
    /// In bytes.
    pub size: u64,
    /// Of its bytes, hex.
    pub sha256: String,
    /// What was odd about it.
    pub notes: Vec<String>,
    /// The message it came out of.
    pub message: Option<Message>,
    /// What somebody else put there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a rule decided for a file, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Action {
    /// Format version.
    pub v: u8,
    /// Always `action`.
    pub kind: String,
    /// The rule's name; null for a command from the command line.
    pub rule: Option<String>,
    /// The command, word by word; words that are no UTF-8 have U+FFFD in the place of what is wrong.
    pub argv: Vec<String>,
    /// `emitted`, `done`, `failed`, `later`, `unknown`, `skipped`, `held` or `dead`.
    pub state: String,
    /// The exit status of the command.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// In one sentence.
    pub why: Option<String>,
    /// What it acted on.
    pub file: Option<File>,
}

/// What became of a message that was submitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Format version.
    pub v: u8,
    /// Always `sent`.
    pub kind: String,
    /// With its angle brackets.
    pub message_id: Option<String>,
    /// One entry for each recipient.
    pub recipients: Vec<Fate>,
}

/// What became of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// The envelope address.
    pub to: String,
    /// What is known.
    pub outcome: Outcome,
    /// The server's last word on it.
    pub reply: Option<String>,
    /// What a refusal is about.
    #[serde(default)]
    pub class: Option<Class>,
}

/// The four things that can be known of a recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The server took it and answers for it.
    Done,
    /// Not now; worth another try.
    #[default]
    Later,
    /// Refused for good.
    Never,
    /// The line died before the answer came: it may have been taken.
    Unknown,
}

impl Outcome {
    /// As a word in records and files.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Later => "later",
            Outcome::Never => "never",
            Outcome::Unknown => "unknown",
        }
    }
}

/// A message in the queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queued {
    /// Format version.
    pub v: u8,
    /// Always `queued`.
    pub kind: String,
    /// Its name in the queue.
    pub id: String,
    /// Those not settled yet.
    pub recipients: Vec<Waiting>,
}

/// A recipient that waits in the queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// The envelope address.
    pub to: String,
    /// `due`, `later`, `held` or `unknown`.
    pub state: String,
    /// When it is tried next, RFC 3339 in UTC.
    pub next: Option<String>,
    /// How often it was tried.
    pub tries: u32,
    /// The server's last word on it.
    pub reply: Option<String>,
    /// What a refusal is about.
    pub class: Option<Class>,
}

/// A server that the queue leaves alone for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Relay {
    /// Format version.
    pub v: u8,
    /// Always `relay`.
    pub kind: String,
    /// The account or the URL.
    pub name: String,
    /// Since when it is down, RFC 3339 in UTC.
    pub since: String,
    /// How many attempts failed since.
    pub failures: u32,
    /// When it is tried next.
    pub next: String,
    /// Why the last attempt failed.
    pub reply: String,
}

/// Records of each kind start as `Kind { v: 1, kind: "…", ..Default::default() }`; this does it in one word.
macro_rules! fresh {
    ($($name:ident $kind:literal),*) => {$(
        impl $name {
            /// An empty record of this kind.
            pub fn fresh() -> Self {
                $name { v: VERSION, kind: $kind.into(), ..Default::default() }
            }

            /// Reads one line; an object of another kind or version is refused (65).
            pub fn read(line: &str) -> Result<Self> {
                let doing = concat!("cannot read a ", $kind, " record");
                let record: $name = serde_json::from_str(line).map_err(|why| Error::new(Kind::Data, doing, why))?;
                if record.v != VERSION || record.kind != $kind {
                    return Err(Error::new(Kind::Data, doing,
                        format!("it is of kind {:?}, version {}", record.kind, record.v)));
                }
                Ok(record)
            }
        }
    )*};
}
fresh!(Message "message", File "file", Action "action", Sent "sent", Queued "queued", Relay "relay");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_pass_through() {
        let line = r#"{"v":1,"kind":"message","state":"delivered","path":"./m","uid":7,"colour":"red"}"#;
        let message = Message::read(line).unwrap();
        assert_eq!(message.uid, Some(7));
        let again: Value = serde_json::to_value(&message).unwrap();
        assert_eq!((again["colour"].as_str(), again["path"].as_str()), (Some("red"), Some("./m")));
        assert!(again["subject"].is_null());
    }

    #[test]
    fn another_kind_is_refused() {
        assert_eq!(File::read(r#"{"v":1,"kind":"message"}"#).unwrap_err().status(), 65);
        assert_eq!(File::read(r#"{"v":2,"kind":"file"}"#).unwrap_err().status(), 65);
    }
}
