//! What the head of an entity says about its body.

use std::ops::Range;

use crate::mail::decode::Encoding;
use crate::mail::header;
use crate::mail::param::Value;

/// What a head says; of several fields of one name the first counts.
pub(super) struct Said {
    pub(super) head: Range<usize>,
    pub(super) kind: Value,
    /// `type/subtype` in lower case.
    pub(super) said: String,
    pub(super) disposition: Option<String>,
    pub(super) encoding: Encoding,
    pub(super) notes: Vec<String>,
}

impl Said {
    /// Reads the head that lies at `head`; where it gives no type it is a message within a digest (RFC 2046 section
    /// 5.1.5), else plain text.
    pub(super) fn read(bytes: &[u8], head: Range<usize>, in_digest: bool) -> Said {
        let mut said = Said {
            head: head.clone(),
            kind: Value::default(),
            said: String::new(),
            disposition: None,
            encoding: Encoding::Identity,
            notes: Vec::new(),
        };
        let mut seen = (false, false, false);
        for field in header::fields(&bytes[head]) {
            if field.is("Content-Type") && !std::mem::replace(&mut seen.0, true) {
                said.kind = Value::parse(field.value);
                said.said = said.kind.token.replace(char::is_whitespace, "");
            } else if field.is("Content-Disposition") && !std::mem::replace(&mut seen.1, true) {
                said.disposition = Some(Value::parse(field.value).token);
            } else if field.is("Content-Transfer-Encoding") && !std::mem::replace(&mut seen.2, true) {
                said.encoding = Encoding::parse(field.value);
            }
        }
        if !said.said.contains('/') {
            if seen.0 {
                said.notes.push(format!("Content-Type \"{}\" makes no sense", said.said));
            }
            said.said = if in_digest { "message/rfc822" } else { "text/plain" }.to_string();
        }
        said
    }

    /// The boundary that it names.
    pub(super) fn boundary(&self) -> Option<Vec<u8>> {
        let boundary = self.kind.raw("boundary").map(|boundary| boundary.trim_ascii_end().to_vec());
        boundary.filter(|boundary| !boundary.is_empty())
    }
}
