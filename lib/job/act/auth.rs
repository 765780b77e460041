//! Who sent a message: its bytes, the configuration and DNS brought together, and the verdict kept.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::Auth;
use crate::error::{Kind, Result, Status};
use crate::job::dissect::bytes::Bytes;
#[cfg(not(feature = "dkim"))]
use crate::mail::auth::Found;
use crate::mail::auth::{self, Proof, Terms, Verdict};
use crate::record::{RecordPath, VERSION, hex};
use crate::report::{self, Records};
use crate::rules;
use crate::store::proofs::Proofs;

use super::facts::Known;
use super::start;

#[cfg(feature = "dkim")]
mod keys;
#[cfg(feature = "dkim")]
use keys::Keys;

/// A build without signatures looks no keys up.
#[cfg(not(feature = "dkim"))]
struct Keys;

#[cfg(not(feature = "dkim"))]
impl Keys {
    fn new(_: &Auth) -> Keys {
        Keys
    }

    fn look_up(&mut self, _: &str) -> Found {
        Found::Records(Vec::new())
    }
}

/// Judges messages, each once.
pub(super) struct Prover {
    auth: Auth,
    keys: RefCell<Keys>,
    /// `None` where nothing is to be remembered or believed.
    proofs: Option<Proofs>,
    /// Verdicts that are made are kept.
    keeps: bool,
    /// The last message and what came of it: several files of one follow each other.
    last: RefCell<Option<(PathBuf, Judged)>>,
}

#[derive(Clone)]
struct Judged {
    sha256: String,
    proof: Proof,
}

impl Prover {
    /// `state` is where verdicts are kept; they are read there, and if it `keeps` them added.
    pub fn new(auth: &Auth, state: Option<&Path>, keeps: bool) -> Prover {
        // The number changes when verdicts of before must not count any more.
        let terms = format!("2 {:?}", (auth.dkim, &auth.trusted, &auth.relays));
        let terms = hex(&Sha256::digest(terms)[..8]);
        Prover {
            auth: auth.clone(),
            keys: RefCell::new(Keys::new(auth)),
            proofs: state.map(|state| Proofs::new(state, &terms)),
            keeps,
            last: RefCell::new(None),
        }
    }

    /// Who sent the message that a file came in, and whether that is news.
    pub fn prove(&self, known: &Known) -> (Proof, bool) {
        let Some(path) = &known.message_path else {
            return (Proof::Unproven("its message is not there to be judged".into()), false);
        };
        let (judged, is_new) = match self.judge_once(path) {
            Ok(judged) => judged,
            Err(error) => return (Proof::Later(error.to_string()), false),
        };
        // The ledger speaks of these bytes, so the proof must.
        if known.message_sha256.as_ref().is_some_and(|sha256| *sha256 != judged.sha256) {
            return (Proof::Later("its message is being changed".into()), false);
        }
        (judged.proof, is_new)
    }

    /// True proof is only in the bytes; but that there is none may be known before they are read.
    pub fn unproven(&self, known: &Known) -> Option<Proof> {
        let said = known.record.message.as_ref()?.sha256.as_ref()?;
        let kept = self.proofs.as_ref()?.find(said);
        kept.ok().flatten().filter(|proof| matches!(proof, Proof::Unproven(_)))
    }

    fn judge_once(&self, path: &Path) -> Result<(Judged, bool)> {
        if let Some((last, judged)) = &*self.last.borrow()
            && last == path
        {
            return Ok((judged.clone(), false));
        }
        let bytes = Bytes::of_file(path)?;
        let sha256 = hex(&Sha256::digest(bytes.as_ref()));
        let kept = self.proofs.as_ref().map(|proofs| proofs.find(&sha256)).transpose()?.flatten();
        let is_new = kept.is_none();
        let proof = kept.unwrap_or_else(|| self.judge(bytes.as_ref(), start::arrived(path)).proof);
        if let Some(proofs) = self.proofs.as_ref().filter(|_| is_new && self.keeps) {
            proofs.keep(&sha256, &proof)?;
        }
        let judged = Judged { sha256, proof };
        *self.last.borrow_mut() = Some((path.to_path_buf(), judged.clone()));
        Ok((judged, is_new))
    }

    /// Judges bytes that came then, now where nobody knows.
    fn judge(&self, message: &[u8], arrived: Option<Timestamp>) -> Verdict {
        let now = Timestamp::now();
        let terms = Terms {
            trusted: &self.auth.trusted,
            is_ours: &|host| self.auth.relays.iter().any(|pattern| rules::matches(pattern, host)),
            dkim: self.auth.dkim,
            at: arrived.unwrap_or(now).min(now).as_second(),
            look_up: &|name| self.keys.borrow_mut().look_up(name),
        };
        auth::judge(message, &terms)
    }
}

/// What `--json` shows of a verdict.
#[derive(Serialize)]
struct Shown<'a> {
    v: u8,
    kind: &'static str,
    state: &'static str,
    #[serde(flatten)]
    path: RecordPath,
    from: Option<&'a str>,
    why: &'a str,
    notes: &'a [String],
}

/// Judges messages (`-` is standard input) and shows what came of it; nothing is kept.
///
/// The status is 0 where each sender is proven, 77 where one is not, 75 where that cannot be told now, 66 where a
/// message cannot be read.
pub fn show(auth: &Auth, messages: &[PathBuf], records: &mut Records<'_>) -> Result<Status> {
    let prover = Prover::new(auth, None, false);
    let mut status = Status::DONE;
    for path in messages {
        let is_stdin = path.as_os_str() == "-";
        let bytes = if is_stdin { Bytes::of_stdin() } else { Bytes::of_file(path) };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                report::trouble(&error);
                status.add(error.kind());
                continue;
            }
        };
        let arrived = if is_stdin { None } else { start::arrived(path) };
        let verdict = prover.judge(bytes.as_ref(), arrived);
        let (state, said, why) = match &verdict.proof {
            Proof::Proven { by, .. } => ("proven", "proven by", by),
            Proof::Unproven(why) => ("unproven", "not proven:", why),
            Proof::Later(why) => ("later", "cannot be told now:", why),
        };
        let from = verdict.from.as_deref();
        if records.is_json() {
            let path = RecordPath((!is_stdin).then(|| report::dotted(path).into_owned()));
            let notes = &verdict.notes;
            records.json(&Shown { v: VERSION, kind: "auth", state, path, from, why, notes })?;
        } else {
            let text = format!("{}: {}: {said} {why}", path.display(), from.unwrap_or("no sender"));
            records.text(report::printable(&text).as_bytes())?;
            verdict.notes.iter().for_each(report::detail);
        }
        match verdict.proof {
            Proof::Proven { .. } => {}
            Proof::Unproven(_) => status.add(Kind::Denied),
            Proof::Later(_) => status.add(Kind::Temporary),
        }
    }
    records.flush()?;
    Ok(status)
}
