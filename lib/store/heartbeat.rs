//! Proof of life of a loop: when the server last answered, when the stages last ran, what is wrong.
//!
//! One small JSON file a loop in the state directory, `heartbeat-LOOP`, replaced whole; beside it `lock-loop-LOOP`, which
//! a living process holds. "Answered" means that the mail server said something to us, not that a process exists.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{Dir, Lock};
use crate::error::{Error, Kind, Result};

/// What a loop last said of itself. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// Format version, 1.
    pub v: u8,
    /// The loop's name.
    #[serde(rename = "loop")]
    pub name: String,
    /// Its account.
    pub account: String,
    /// `run` or `once`.
    pub mode: String,
    /// How often the server is asked, in seconds.
    pub every: u64,
    /// When the mail server last answered.
    pub answered: Option<String>,
    /// When dissect and act last ran through.
    pub passed: Option<String>,
    /// When the last message came.
    pub message: Option<String>,
    /// What is wrong now.
    pub trouble: Option<String>,
    /// Nothing more is tried until somebody does something: the login was refused.
    pub given_up: bool,
    /// Messages that the server has and does not give.
    pub withheld: Vec<Withheld>,
    /// The health that was told last to the loop's alarm.
    pub alarmed: Option<String>,
}

/// A message that the server has and does not give.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Withheld {
    /// Where it is.
    pub mailbox: String,
    /// Which UIDs are meant.
    pub uidvalidity: u32,
    /// Which one it is.
    pub uid: u32,
    /// What the server says, or what is wrong with what it gave.
    pub reason: String,
}

/// Who asks whether a loop is held has its lock for so long at most.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Holds a loop: nobody else runs it meanwhile. 75 if somebody does.
pub fn hold(state: &Dir, name: &str, wait: Duration) -> Result<Lock> {
    Lock::take(state, &lock_name(name), wait.max(A_MOMENT)).map_err(|error| match error.kind() {
        Kind::Temporary => {
            Error::new(Kind::Temporary, format!("cannot run loop {name}"), "it is running already")
                .hint("see `mail-loop status`")
        }
        _ => error,
    })
}

/// True if a living process holds the loop.
pub fn is_held(state: &Dir, name: &str) -> bool {
    state.has(lock_name(name)) && Lock::take(state, &lock_name(name), Duration::ZERO).is_err()
}

/// Writes the heartbeat. It is whole for every reader; a power cut may take it, it is soon written anew. On a full disk it
/// is written over the last one: what nobody can tell of a full disk is worse than one that is read half.
pub fn write(state: &Dir, beat: &Heartbeat) -> Result<()> {
    let text = serde_json::to_vec(beat)
        .map_err(|why| Error::new(Kind::Internal, "cannot write a heartbeat", why))?;
    let name = file_name(&beat.name);
    let replaced = state.replace_soon(&name, &text, 0o600);
    replaced.or_else(|error| state.overwrite_soon(&name, &text).map_err(|_| error))
}

/// The last heartbeat of a loop; `None` if it never ran, or what is there cannot be read.
pub fn read(state: &Dir, name: &str) -> Option<Heartbeat> {
    let bytes = state.read(file_name(name)).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// The loops that ever ran with this state, by their last heartbeats.
pub fn all(state: &Dir) -> Result<Vec<Heartbeat>> {
    let names = state.names()?;
    let beats = names.iter().filter(|name| name.to_string_lossy().starts_with("heartbeat-"));
    let beats = beats.filter_map(|name| serde_json::from_slice(&state.read(name).ok()??).ok());
    let mut beats: Vec<Heartbeat> = beats.filter(|beat: &Heartbeat| beat.mode != "fetch").collect();
    beats.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(beats)
}

/// Names from the configuration may hold anything; in a file name, letters, digits, `-` and `_` stand for themselves.
pub(crate) fn safe(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let word = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    name.bytes().map(word).collect()
}

fn file_name(name: &str) -> String {
    format!("heartbeat-{}", safe(name))
}

fn lock_name(name: &str) -> String {
    format!("lock-loop-{}", safe(name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn to_ask_is_not_to_hold() {
        let temp = tempfile::tempdir().unwrap();
        let state = Dir::open(temp.path()).unwrap();
        drop(hold(&state, "a", Duration::ZERO).unwrap());
        let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    is_held(&state, "a");
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
            let held = (0..300).all(|_| {
                let before = asked.load(Ordering::SeqCst);
                while asked.load(Ordering::SeqCst) == before {
                    std::thread::yield_now();
                }
                hold(&state, "a", Duration::ZERO).is_ok()
            });
            is_over.store(true, Ordering::SeqCst);
            assert!(held, "somebody who only asked was taken for one who runs it");
        });
    }

    #[test]
    fn held_once_and_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let state = Dir::open(temp.path()).unwrap();
        assert!(!is_held(&state, "a/b"));
        let held = hold(&state, "a/b", Duration::ZERO).unwrap();
        assert!(is_held(&state, "a/b"));
        assert_eq!(hold(&state, "a/b", Duration::ZERO).unwrap_err().status(), 75);
        drop(held);
        assert!(!is_held(&state, "a/b"));
        let beat = Heartbeat { v: 1, name: "a/b".into(), every: 300, ..Heartbeat::default() };
        write(&state, &beat).unwrap();
        assert_eq!(read(&state, "a/b"), Some(beat));
        assert_eq!(read(&state, "other"), None);
    }
}
