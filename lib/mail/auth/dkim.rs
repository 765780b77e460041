//! Signatures (RFC 6376, RFC 8463, RFC 8301), more strictly than they have to be read.
//!
//! Refused are: SHA-1, RSA keys below 1024 bits, a body length (`l=`) that leaves any of the body out, a time that has
//! passed or not come, keys in testing, a From that is not covered, a Content-Type that is not and may have been exchanged
//! (`shape`). A signature of a domain that does not stand for
//! From's is not even looked up.

use super::fields::{Field, Head};
use super::key::{Algorithm, Key};
use super::tags::Tags;
use super::{Evidence, Found, Terms, align, canon, shape};

/// So many signatures are read at most; real mail has up to four.
const MOST: usize = 16;
/// So many keys are looked up at most.
const MOST_KEYS: usize = 4;
/// So many fields may be named as covered; real signatures name up to forty.
const MOST_NAMES: usize = 200;
/// Clocks differ by so many seconds.
const SKEW: i64 = 300;

/// What else of a message rules judge.
const JUDGED: &[&str] = &["To", "Cc", "Subject"];

/// By what the domain is proven, of several signatures by the one that covers the most of what rules judge; else true
/// if it may be proven another time.
pub(super) fn judge(
    head: &Head<'_>,
    domain: &str,
    terms: &Terms<'_>,
    notes: &mut Vec<String>,
) -> Result<Evidence, bool> {
    let mut bodies = Bodies::default();
    let (mut later, mut keys) = (false, 0);
    let mut best: Option<Evidence> = None;
    let mut all = head.all("DKIM-Signature");
    for field in all.by_ref().take(MOST) {
        match check(head, field, domain, terms, &mut bodies, &mut keys) {
            Ok(found) => {
                notes.push(match found.loose.is_empty() {
                    true => found.by.clone(),
                    false => format!("{}, which does not cover {}", found.by, found.loose.join(" and ")),
                });
                if found.loose.is_empty() {
                    return Ok(found);
                }
                if best.as_ref().is_none_or(|best| best.loose.len() > found.loose.len()) {
                    best = Some(found);
                }
            }
            Err(Bad::Wrong(why)) => notes.push(why),
            Err(Bad::Later(why)) => {
                later = true;
                notes.push(why);
            }
        }
    }
    if head.all("DKIM-Signature").next().is_none() {
        notes.push("it has no DKIM signature".into());
    }
    if all.next().is_some() {
        notes.push(format!("it has more than {MOST} DKIM signatures"));
    }
    best.ok_or(later)
}

enum Bad {
    Wrong(String),
    Later(String),
}

fn check(
    head: &Head<'_>,
    field: &Field<'_>,
    domain: &str,
    terms: &Terms<'_>,
    bodies: &mut Bodies,
    keys: &mut usize,
) -> Result<Evidence, Bad> {
    let text = std::str::from_utf8(field.value()).unwrap_or("\u{fffd}");
    let signature = Tags::parse(text).and_then(|tags| Signature::read(tags, domain, terms.at));
    let signature = signature.map_err(|why| Bad::Wrong(format!("a DKIM signature {why}")))?;
    let signer = signature.tags.get("d").unwrap_or_default().to_ascii_lowercase();
    let wrong = |why: &str| Bad::Wrong(format!("the signature of {signer} does not count: {why}"));
    let (digest, octets) = bodies.get(head, signature.body);
    if signature.length.is_some_and(|length| u64::try_from(length) != Ok(octets)) {
        return Err(wrong("it does not cover the whole body (l=)"));
    }
    if signature.tags.octets("bh").is_none_or(|said| said != digest) {
        return Err(wrong("the body was changed"));
    }
    if !shape::is_certain(head, &signature.covered) {
        return Err(wrong("it does not cover Content-Type, and the body does not begin as that says"));
    }
    *keys += 1;
    if *keys > MOST_KEYS {
        return Err(wrong("there are too many of them"));
    }
    let selector = signature.tags.get("s").unwrap_or_default();
    let records = match (terms.look_up)(&format!("{selector}._domainkey.{signer}")) {
        Found::Records(records) => records,
        Found::Later(why) => {
            return Err(Bad::Later(format!(
                "the key of {signer} ({selector}) cannot be looked up now: {why}"
            )));
        }
    };
    let key = Key::of(&records, signature.algorithm).map_err(|why| wrong(&why))?;
    if key.is_strict && !signature.identity.eq_ignore_ascii_case(&signer) {
        return Err(wrong("its key is for the domain itself alone"));
    }
    let octets = signature.tags.octets("b").ok_or_else(|| wrong("it cannot be read"))?;
    if !key.has_signed(&signed(head, field, &signature), &octets) {
        return Err(wrong("the header was changed, or it was made with another key"));
    }
    let is_loose = |name: &&str| {
        let is_covered = signature.covered.iter().any(|covered| covered.eq_ignore_ascii_case(name));
        !is_covered && head.all(name).next().is_some()
    };
    let loose = JUDGED.iter().copied().filter(is_loose).map(String::from).collect();
    Ok(Evidence { by: format!("a DKIM signature of {signer} ({selector})"), loose })
}

/// A signature that may count if it is right.
struct Signature<'a> {
    tags: Tags<'a>,
    algorithm: Algorithm,
    header: canon::Form,
    body: canon::Form,
    /// The names of the fields that it covers, from the bottom of the header up.
    covered: Vec<&'a str>,
    length: Option<i64>,
    /// The domain of `i=`.
    identity: &'a str,
}

impl<'a> Signature<'a> {
    /// What its tags alone can show (RFC 6376 section 6.1.1), in words that follow "a DKIM signature".
    fn read(tags: Tags<'a>, domain: &str, at: i64) -> Result<Signature<'a>, String> {
        let need =
            |name: &str| tags.get(name).filter(|value| !value.is_empty()).ok_or(format!("has no {name}="));
        let (signer, selector) = (need("d")?, need("s")?);
        if !is_host(signer) || !is_host(selector) {
            return Err("has a domain or selector that is none".into());
        }
        let of = |why: &str| format!("of {} {why}", signer.to_ascii_lowercase());
        if !align::covers(signer, domain) {
            return Err(of(&format!("does not stand for {domain}")));
        }
        if need("v")? != "1" {
            return Err(of("is of another version"));
        }
        let algorithm = match need("a")?.to_ascii_lowercase().as_str() {
            "rsa-sha256" => Algorithm::RsaSha256,
            "ed25519-sha256" => Algorithm::Ed25519Sha256,
            other => return Err(of(&format!("is made with {other}, which is not taken"))),
        };
        need("b").and(need("bh"))?;
        let (header, body) = forms(tags.get("c").unwrap_or("simple/simple")).ok_or(of("has a strange c="))?;
        let covered = tags.words("h").unwrap_or_default();
        if !covered.iter().any(|name| name.eq_ignore_ascii_case("from")) {
            return Err(of("does not cover From"));
        }
        if covered.len() > MOST_NAMES {
            return Err(of("covers too many fields (h=)"));
        }
        if tags.words("q").is_some_and(|ways| !ways.contains(&"dns/txt")) {
            return Err(of("has its key elsewhere than in DNS"));
        }
        let identity = tags.get("i").map_or(Some(signer), |i| i.rsplit_once('@').map(|(_, domain)| domain));
        let identity = identity.ok_or(of("has an i= without a domain"))?;
        let is_within = |part: &str, whole: &str| part == whole || part.ends_with(&format!(".{whole}"));
        if !is_within(&identity.to_ascii_lowercase(), &signer.to_ascii_lowercase()) {
            return Err(of("is for somebody elsewhere (i=)"));
        }
        let (made, ends) = (tags.number("t")?, tags.number("x")?);
        if made.is_some_and(|made| made > at + SKEW) {
            return Err(of("was made in the future (t=)"));
        }
        if ends.is_some_and(|ends| ends < at || made.is_some_and(|made| ends <= made)) {
            return Err(of("has expired (x=)"));
        }
        let length = tags.number("l")?;
        Ok(Signature { algorithm, header, body, covered, length, identity, tags })
    }
}

fn forms(text: &str) -> Option<(canon::Form, canon::Form)> {
    let form = |word: &str| match word.trim_ascii().to_ascii_lowercase().as_str() {
        "simple" => Some(canon::Form::Simple),
        "relaxed" => Some(canon::Form::Relaxed),
        _ => None,
    };
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    Some((form(header)?, form(body)?))
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
    };
    name.len() <= 180 && name.split('.').all(is_label)
}

/// The bytes that a signature is of: the fields it covers, then itself with an empty `b=` (RFC 6376 section 3.7).
fn signed(head: &Head<'_>, own: &Field<'_>, signature: &Signature<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut taken = vec![false; head.fields.len()];
    for name in &signature.covered {
        // The lowest that was not taken yet; one that is not there adds nothing.
        let found = (0..head.fields.len()).rev().find(|at| {
            !taken[*at] && head.fields[*at].is(name) && !std::ptr::eq(&raw const head.fields[*at], own)
        });
        if let Some(at) = found {
            taken[at] = true;
            canon::field(&head.fields[at], None, signature.header, &mut bytes);
        }
    }
    let gap = signature.tags.place("b").map(|gap| own.value_at + gap.start..own.value_at + gap.end);
    canon::field(own, gap, signature.header, &mut bytes);
    bytes.truncate(bytes.len() - 2);
    bytes
}

/// The digest of the body in either form, made once.
#[derive(Default)]
struct Bodies {
    simple: Option<([u8; 32], u64)>,
    relaxed: Option<([u8; 32], u64)>,
}

impl Bodies {
    fn get(&mut self, head: &Head<'_>, form: canon::Form) -> ([u8; 32], u64) {
        let slot = match form {
            canon::Form::Simple => &mut self.simple,
            canon::Form::Relaxed => &mut self.relaxed,
        };
        *slot.get_or_insert_with(|| canon::body(head.body, head.is_wire, form))
    }
}
