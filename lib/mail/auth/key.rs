//! A signer's public key as its TXT record has it (RFC 6376 section 3.6.1), and checking with it.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::tags::Tags;

/// Smaller RSA keys are broken by people with a grudge (RFC 8301 section 3.2).
const LEAST_BITS: usize = 1024;

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    RsaSha256,
    Ed25519Sha256,
}

/// A key that may be used for mail.
#[derive(Debug)]
pub(super) struct Key {
    octets: Vec<u8>,
    algorithm: Algorithm,
    /// The identity in `i=` must be at `d=` itself.
    pub is_strict: bool,
}

impl Key {
    /// The only key under a name; an error in words where there is none that can be relied on.
    pub fn of(records: &[Vec<u8>], algorithm: Algorithm) -> Result<Key, String> {
        let texts = records.iter().map(|record| std::str::from_utf8(record).unwrap_or_default());
        let mut keys = texts.filter_map(|text| Tags::parse(text).ok()).filter(|tags| tags.get("p").is_some());
        match (keys.next(), keys.next()) {
            (None, _) => Err("its key is not published".into()),
            (Some(_), Some(_)) => Err("there is more than one key under its name".into()),
            (Some(tags), None) => Key::read(&tags, algorithm),
        }
    }

    fn read(tags: &Tags<'_>, algorithm: Algorithm) -> Result<Key, String> {
        let has = |tag: &str, word: &str| {
            let asked = tags.words(tag);
            asked.is_some_and(|words| words.iter().any(|one| one.eq_ignore_ascii_case(word)))
        };
        if tags.get("v").is_some_and(|version| version != "DKIM1" || tags.first() != Some("v")) {
            return Err("its key is of another version".into());
        }
        let kind = match algorithm {
            Algorithm::RsaSha256 => "rsa",
            Algorithm::Ed25519Sha256 => "ed25519",
        };
        if !tags.get("k").unwrap_or("rsa").eq_ignore_ascii_case(kind) {
            return Err("its key is of another kind".into());
        }
        if tags.get("h").is_some() && !has("h", "sha256") {
            return Err("its key does not allow SHA-256".into());
        }
        if tags.get("s").is_some() && !has("s", "*") && !has("s", "email") {
            return Err("its key is not for mail".into());
        }
        if has("t", "y") {
            return Err("its key is only being tested".into());
        }
        if tags.get("p") == Some("") {
            return Err("its key was revoked".into());
        }
        let octets = tags.octets("p").ok_or("its key cannot be read")?;
        let octets = match algorithm {
            Algorithm::Ed25519Sha256 => octets,
            Algorithm::RsaSha256 => rsa(&octets)?.to_vec(),
        };
        Ok(Key { octets, algorithm, is_strict: has("t", "s") })
    }

    /// True if `signature` is one of `signed` by this key.
    pub fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let check = |how: &'static dyn VerificationAlgorithm, signed: &[u8]| {
            UnparsedPublicKey::new(how, &self.octets).verify(signed, signature).is_ok()
        };
        match self.algorithm {
            // "Legacy" is its name for keys of 1024 bits, which RFC 8301 still has us take.
            Algorithm::RsaSha256 => check(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, signed),
            // RFC 8463 section 3: the digest is what is signed.
            Algorithm::Ed25519Sha256 => {
                use sha2::{Digest, Sha256};
                check(&signature::ED25519, &Sha256::digest(signed))
            }
        }
    }
}

/// The `RSAPublicKey` in a `SubjectPublicKeyInfo` (RFC 8017 appendix A.1.1), or standing alone as some publish it.
fn rsa(der: &[u8]) -> Result<&[u8], String> {
    let wrong = || "its RSA key cannot be read".to_string();
    let outer = whole(der, SEQUENCE).ok_or_else(wrong)?;
    let key = match element(outer, SEQUENCE) {
        Some((identifier, rest)) if identifier.starts_with(RSA_ENCRYPTION) => {
            whole(rest, BIT_STRING).and_then(|bits| bits.strip_prefix(&[0])).ok_or_else(wrong)?
        }
        Some(_) => return Err("its key is no RSA key".into()),
        None => der,
    };
    let numbers = whole(key, SEQUENCE).ok_or_else(wrong)?;
    let (modulus, _) = element(numbers, INTEGER).ok_or_else(wrong)?;
    let modulus = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match bits < LEAST_BITS {
        true => Err(format!("its RSA key has {bits} bits, fewer than {LEAST_BITS}")),
        false => Ok(key),
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// The object identifier 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

fn whole(der: &[u8], tag: u8) -> Option<&[u8]> {
    element(der, tag).filter(|(_, rest)| rest.is_empty()).map(|(inner, _)| inner)
}

/// What an element of DER holds, and what stands behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}
