//! What was proven of a message's sender, kept because DNS may say something else tomorrow.
//!
//! `STATE/act/proofs/XX` holds JSON lines for the messages whose sha256 begins with `XX`; the last line of a message
//! counts, and only where it was judged by the same configuration. Lines are added without waiting for the disk: what a
//! power cut takes, or leaves torn, is judged anew. So the files may be removed at any time.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, Dir, check_private};
use crate::error::{Error, Kind, Result};
use crate::mail::auth::Proof;
use crate::record::VERSION;

/// The verdicts of a state directory.
#[derive(Clone, Debug)]
pub struct Proofs {
    state: PathBuf,
    terms: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    message: String,
    v: u8,
    terms: String,
    #[serde(flatten)]
    proof: Proof,
}

impl Proofs {
    /// Those in `state` that were made under these terms, whatever text tells terms apart.
    pub fn new(state: &Path, terms: &str) -> Proofs {
        Proofs { state: state.to_path_buf(), terms: terms.into() }
    }

    /// What is kept of the message with this sha256 (hex). 78 where others can write to the place.
    pub fn find(&self, message: &str) -> Result<Option<Proof>> {
        let dir = self.state.join("act/proofs");
        let path = dir.join(shard(message)?);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(Error::reading(&path, why).with_kind(Kind::Io)),
        };
        for place in [&self.state, &self.state.join("act"), &dir] {
            check_private(place)?;
        }
        let start = format!("{{\"message\":\"{message}\",");
        let own = bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(start.as_bytes()));
        let lines = own.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let mut fitting = lines.filter(|line| line.v == VERSION && line.terms == self.terms);
        Ok(fitting.next_back().map(|line| line.proof))
    }

    /// Keeps it; what may be told better another time is not kept.
    pub fn keep(&self, message: &str, proof: &Proof) -> Result<()> {
        if matches!(proof, Proof::Later(_)) {
            return Ok(());
        }
        let state = Dir::create(&self.state, 0o700)?;
        check_private(state.path())?;
        let dir = state.subdir("act", 0o700)?.subdir("proofs", 0o700)?;
        let line =
            Line { message: message.into(), v: VERSION, terms: self.terms.clone(), proof: proof.clone() };
        let line = serde_json::to_string(&line)
            .map_err(|why| Error::new(Kind::Internal, "cannot write a verdict", why))?;
        let path = dir.at(shard(message)?);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        // In one write, so that lines of several processes do not mix; begun anew, so that a torn one harms itself alone.
        file.and_then(|mut file| durable::write(&mut file, format!("\n{line}\n").as_bytes()))
            .map_err(|why| Error::writing(&path, why))
    }
}

fn shard(message: &str) -> Result<&str> {
    let is_digest = message.len() == 64 && message.bytes().all(|byte| byte.is_ascii_hexdigit());
    message
        .get(..2)
        .filter(|_| is_digest)
        .ok_or_else(|| Error::plain(Kind::Data, format!("{message:?} is no SHA-256")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_under_the_same_terms_counts() {
        let temp = tempfile::tempdir().unwrap();
        let state = temp.path().join("state");
        let (one, other) = (Proofs::new(&state, "one"), Proofs::new(&state, "other"));
        let (message, stranger) = ("ab".repeat(32), "abc".repeat(21) + "d");
        assert_eq!(one.find(&message).unwrap(), None);
        one.keep(&message, &Proof::Later("no DNS".into())).unwrap();
        assert!(!state.exists());
        let proven = Proof::Proven { from: "a@b".into(), by: "x\n".into(), loose: vec!["To".into()] };
        one.keep(&message, &Proof::Unproven("no".into())).unwrap();
        one.keep(&message, &proven).unwrap();
        let torn =
            std::fs::read_to_string(state.join("act/proofs/ab")).unwrap() + "{\"message\":\"" + &message;
        std::fs::write(state.join("act/proofs/ab"), torn).unwrap();
        assert_eq!(one.find(&message).unwrap(), Some(proven));
        one.keep(&message, &Proof::Unproven("no".into())).unwrap();
        assert_eq!(one.find(&message).unwrap(), Some(Proof::Unproven("no".into())));
        assert_eq!((other.find(&message).unwrap(), one.find(&stranger).unwrap()), (None, None));
        assert!(one.find("../../x").is_err());
    }
}
