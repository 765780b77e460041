//! Whether a body that is signed can have been given another shape than its signer gave it.
//!
//! Some sign the body without the field that says what it is (Gmail covers no Content-Type). Whoever has such a message
//! can exchange that field, and have words that were quoted in it read as a part of it. Their multiparts begin with the
//! boundary; what is read so with another boundary does not.

use super::fields::Head;
use crate::mail::param::Value;

/// True if Content-Type is among the fields that are `covered`, or says what the body itself shows.
pub(super) fn is_certain(head: &Head<'_>, covered: &[&str]) -> bool {
    if covered.iter().any(|name| name.eq_ignore_ascii_case("Content-Type")) {
        return true;
    }
    let Some(field) = head.all("Content-Type").next() else { return true };
    let kind = Value::parse(field.value());
    let says = |kinds: &str| kind.token.trim_ascii_start().starts_with(kinds);
    if says("multipart") {
        let boundary = kind.raw("boundary").unwrap_or_default();
        let boundary = boundary.trim_ascii_end();
        let rest = head.body.strip_prefix(b"--").and_then(|body| body.strip_prefix(boundary));
        return !boundary.is_empty() && rest.is_some_and(|rest| rest.trim_ascii_start().len() < rest.len());
    }
    !says("message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_begins_as_its_type_says() {
        let is_certain = |kind: &str, body: &str, covered: &[&str]| {
            is_certain(&Head::of(format!("{kind}\r\n\r\n{body}").as_bytes()).unwrap(), covered)
        };
        let multipart = "Content-Type: Multipart/Mixed; boundary=\"b=1\"";
        for (kind, body, fits) in [
            (multipart, "--b=1\r\n\r\nx\r\n--b=1--\r\n", true),
            (multipart, "--b=1 \r\n\r\nx", true),
            (multipart, "Dear all\r\n--b=1\r\n\r\nx", false),
            (multipart, "\r\n--b=1\r\n\r\nx", false),
            (multipart, "--b=12\r\n\r\n--b=1\r\n\r\nx", false),
            ("Content-Type: multipart/mixed", "--b\r\n\r\nx", false),
            ("Content-Type: multipart/mixed; boundary=\"\"", "--\r\n\r\nx", false),
            ("Content-Type: multipart/mixed; boundary=b", "", false),
            ("Content-Type: message/rfc822", "From: x\r\n\r\n", false),
            ("Content-Type: text/plain", "x", true),
            ("X: y", "x", true),
        ] {
            assert_eq!(is_certain(kind, body, &["From"]), fits, "{kind} {body:?}");
            assert!(is_certain(kind, body, &["from", "content-type"]));
        }
    }
}
