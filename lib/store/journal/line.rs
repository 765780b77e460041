//! How a line of the journal is known again without reading all of it as JSON.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::record::VERSION;

/// The key of a line. Ours begin with it; reading the whole line as JSON would cost ten times as long.
pub(super) fn key_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Key {
        key: String,
    }
    let plain = line.strip_prefix(br#"{"v":1,"key":""#).and_then(|rest| {
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        (rest[end] == b'"').then(|| String::from_utf8(rest[..end].to_vec()).ok())?
    });
    plain.or_else(|| serde_json::from_slice(line).ok().map(|Key { key }| key))
}

/// How a line with this key begins.
pub(super) fn key_start(key: &str) -> Result<Vec<u8>> {
    let key = serde_json::to_string(key)
        .map_err(|why| Error::new(Kind::Internal, "cannot write a journal entry", why))?;
    Ok(format!(r#"{{"v":{VERSION},"key":{key},"#).into_bytes())
}

pub(super) fn short(key: &str) -> [u8; 16] {
    let digest = Sha256::digest(key.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

pub(super) fn digest(line: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}
