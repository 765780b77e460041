//! Who sent a message, as far as it is proven: by a DKIM signature that covers From, or by what the own server found.
//!
//! Pure: the bytes of the outermost message in, a verdict out; keys come through a function of the caller, the moment
//! too. Whatever is doubtful proves nothing, with the reason in words. Two things prove the domain of the only address
//! in From:
//!
//! - a DKIM signature (RFC 6376, RFC 8463) that verifies here, covers From and the whole body, and whose `d=` is From's
//!   domain or a parent of it that is no public suffix (`co.uk`, `github.io`);
//! - the topmost Authentication-Results (RFC 8601), where its authserv-id is one that the caller trusts, and says the
//!   same of a signature, or that DMARC passed for exactly From's domain.
//!
//! A field that says what the message is, and stands there twice, makes it doubtful: a signature covers the lower one,
//! and readers take the upper one.

use serde::{Deserialize, Serialize};

mod align;
#[cfg(feature = "dkim")]
mod canon;
#[cfg(feature = "dkim")]
mod dkim;
mod fields;
mod from;
#[cfg(feature = "dkim")]
mod key;
mod results;
#[cfg(feature = "dkim")]
mod shape;
#[cfg(feature = "dkim")]
mod tags;

use fields::Head;

/// True if signatures can be verified by this build.
pub const HAS_DKIM: bool = cfg!(feature = "dkim");

/// What is asked of a message, and by whom.
pub struct Terms<'a> {
    /// Authserv-ids whose Authentication-Results are believed (RFC 8601 section 2.5).
    pub trusted: &'a [String],
    /// True for a host, as a Received field names it, of the own mail system besides those in the domain of the
    /// authserv-id.
    pub is_ours: &'a dyn Fn(&str) -> bool,
    /// Signatures are verified too.
    pub dkim: bool,
    /// When the message came, in seconds since 1970: what signatures say of their time is held against it.
    pub at: i64,
    /// The TXT records of a name.
    pub look_up: &'a dyn Fn(&str) -> Found,
}

/// What DNS has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// TXT records, each with its strings put together; perhaps none.
    Records(Vec<Vec<u8>>),
    /// Nobody knows now, and why.
    Later(String),
}

/// What is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// From is this address, and its domain stands for it.
    Proven {
        /// The only address in From, as it is written there.
        from: String,
        /// By what, in words that follow "proven by".
        by: String,
        /// Of To, Cc and Subject those that it has and that the proof does not cover: anybody may have put them there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        loose: Vec<String>,
    },
    /// Nothing, and why.
    Unproven(String),
    /// Nobody knows now, and why: to be asked again.
    Later(String),
}

/// What is proven, and all that was looked at on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The only address in From; `None` where there is no such thing.
    pub from: Option<String>,
    /// What is proven.
    pub proof: Proof,
    /// What each piece of evidence came to, in words.
    pub notes: Vec<String>,
}

/// Judges the outermost message in these bytes.
///
/// Time is linear in their number; nothing is copied but single header fields.
pub fn judge(message: &[u8], terms: &Terms<'_>) -> Verdict {
    let refused = |why: String| Verdict { from: None, proof: Proof::Unproven(why), notes: Vec::new() };
    let head = match Head::of(message) {
        Ok(head) => head,
        Err(why) => return refused(why),
    };
    let sender = match from::only(&head) {
        Ok(sender) => sender,
        Err(why) => return refused(why),
    };
    if let Some(name) = head.twice(SINGLE) {
        return refused(format!("it has more than one {name} field"));
    }
    let mut notes = Vec::new();
    let proof = prove(&head, sender.domain(), terms, &mut notes);
    let from = sender.as_str().to_string();
    let proof = match proof {
        Ok(Evidence { by, loose }) => Proof::Proven { from: from.clone(), by, loose },
        Err(Doubt { later: true }) => Proof::Later(notes.join("; ")),
        Err(Doubt { later: false }) => Proof::Unproven(notes.join("; ")),
    };
    Verdict { from: Some(from), proof, notes }
}

/// Fields of which there is one at most (RFC 5322 section 3.6, RFC 2045), by which rules judge or files are found.
const SINGLE: &[&str] =
    &["To", "Cc", "Subject", "Date", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition"];

/// What proves the sender.
struct Evidence {
    by: String,
    loose: Vec<String>,
}

struct Doubt {
    /// It may be proven another time.
    later: bool,
}

fn prove(
    head: &Head<'_>,
    domain: &str,
    terms: &Terms<'_>,
    notes: &mut Vec<String>,
) -> Result<Evidence, Doubt> {
    match results::judge(head, domain, terms) {
        Ok(by) => {
            notes.push(by.clone());
            return Ok(Evidence { by, loose: Vec::new() });
        }
        Err(why) => notes.push(why),
    }
    signed(head, domain, terms, notes)
}

#[cfg(feature = "dkim")]
fn signed(
    head: &Head<'_>,
    domain: &str,
    terms: &Terms<'_>,
    notes: &mut Vec<String>,
) -> Result<Evidence, Doubt> {
    if !terms.dkim {
        return Err(Doubt { later: false });
    }
    dkim::judge(head, domain, terms, notes).map_err(|later| Doubt { later })
}

#[cfg(not(feature = "dkim"))]
fn signed(_: &Head<'_>, _: &str, _: &Terms<'_>, notes: &mut Vec<String>) -> Result<Evidence, Doubt> {
    notes.push("this build verifies no signatures".into());
    Err(Doubt { later: false })
}

#[cfg(test)]
mod tests;
