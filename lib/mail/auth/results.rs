//! What the own server found: the topmost Authentication-Results, and no other (RFC 8601).
//!
//! Anybody can write such a field. The server that takes mail from strangers puts its own above theirs and removes those
//! that claim to be its own (section 5); so only the topmost counts, only from an authserv-id that is trusted, and only
//! where no host but our own has handled the message since.

use super::Terms;
use super::align::{covers, is_same_house};
use super::fields::Head;

/// A longer field is not judged; real ones have some hundred octets.
const LONGEST: usize = 16 << 10;

/// By what the domain is proven, or why it is not.
pub(super) fn judge(head: &Head<'_>, domain: &str, terms: &Terms<'_>) -> Result<String, String> {
    if terms.trusted.is_empty() {
        return Err("no authserv-id is configured as trusted".into());
    }
    let Some(at) = head.fields.iter().position(|field| field.is("Authentication-Results")) else {
        return Err("it has no Authentication-Results".into());
    };
    let line = head.fields[at].line()?;
    let results = Some(line).filter(|line| line.len() <= LONGEST).and_then(|line| parse(&line));
    let results = results.ok_or("its topmost Authentication-Results cannot be understood")?;
    let id = &results.id;
    if !terms.trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(id)) {
        return Err(format!("its topmost Authentication-Results is by {id}, which is not trusted"));
    }
    for received in head.fields[..at].iter().filter(|field| field.is("Received")) {
        let by = received.line().ok().and_then(|line| receiver(&line));
        if !by.as_ref().is_some_and(|by| is_same_house(by, id) || (terms.is_ours)(by)) {
            let by = by.unwrap_or_else(|| "an unnamed host".into());
            return Err(format!("{by}, which is not ours, received it after {id} had looked at it"));
        }
    }
    weigh(&results, domain)
}

fn weigh(results: &Results, domain: &str) -> Result<String, String> {
    let id = &results.id;
    let said = |method: &'static str, result: &'static str| {
        let fits = move |one: &&One| one.method == method && one.result == result;
        results.all.iter().filter(fits)
    };
    if said("dmarc", "fail").next().is_some() {
        return Err(format!("{id} says that DMARC failed"));
    }
    let is_from = |one: &&One| one.property("header.from").is_some_and(|of| of.eq_ignore_ascii_case(domain));
    if said("dmarc", "pass").any(|one| is_from(&one)) {
        return Ok(format!("{id}: DMARC passed for {domain}"));
    }
    let signers: Vec<&str> = said("dkim", "pass").filter_map(One::signer).collect();
    if let Some(signer) = signers.iter().find(|signer| covers(signer, domain)) {
        return Ok(format!("{id}: a signature of {signer} is good"));
    }
    Err(match signers.is_empty() {
        true => format!("{id} says of no signature that it is good"),
        false => format!("{id} says that {} signed it, not {domain}", signers.join(" and ")),
    })
}

/// The host that a Received field says received it: `["from" host] "by" host …` (RFC 5321 section 4.4).
fn receiver(line: &str) -> Option<String> {
    let mut reader = Reader { rest: line };
    let mut words = std::iter::from_fn(|| reader.word().ok().flatten());
    let mut first = words.next()?;
    if first.eq_ignore_ascii_case("from") {
        first = words.nth(1)?;
    }
    first.eq_ignore_ascii_case("by").then(|| words.next()).flatten()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    id: String,
    all: Vec<One>,
}

/// `method "=" result *(ptype "." property "=" value)`; names in small letters.
#[derive(Debug, Default, PartialEq, Eq)]
struct One {
    method: String,
    result: String,
    properties: Vec<(String, String)>,
}

impl One {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `d=` of the signature; where only `i=` is told, its domain, which lies within that of `d=`.
    fn signer(&self) -> Option<&str> {
        let identity =
            || self.property("header.i").and_then(|i| i.rsplit_once('@')).map(|(_, domain)| domain);
        self.property("header.d").or_else(identity)
    }
}

/// `authserv-id [version] *(";" resinfo)` (RFC 8601 section 2.2); what is not understood makes all of it worthless.
fn parse(line: &str) -> Option<Results> {
    let mut reader = Reader { rest: line };
    let mut results = Results { id: reader.word().ok()??, all: Vec::new() };
    let version = reader.word().ok()?;
    if version.is_some_and(|version| version != "1") || reader.word().ok()?.is_some() {
        return None;
    }
    while reader.semicolon() {
        let Some((method, result)) = reader.pair().ok()? else {
            // `none`, or a semicolon at the end.
            continue;
        };
        let method = method.split('/').next().unwrap_or_default().trim().to_string();
        let mut one = One { method, result: result.to_ascii_lowercase(), properties: Vec::new() };
        while let Some((name, value)) = reader.pair().ok()? {
            if one.property(&name).is_some() {
                return None;
            }
            one.properties.push((name, value));
        }
        results.all.push(one);
    }
    reader.rest.is_empty().then_some(results)
}

/// Reads words and comments as they stand in structured fields.
struct Reader<'a> {
    rest: &'a str,
}

/// What breaks the grammar.
struct Broken;

impl Reader<'_> {
    /// Over blanks and comments, which nest.
    fn skip(&mut self) -> Result<(), Broken> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if !self.rest.starts_with('(') {
                return Ok(());
            }
            let (mut depth, mut escaped, mut end) = (0usize, false, None);
            for (at, c) in self.rest.char_indices() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = Some(at + 1);
                    break;
                }
            }
            self.rest = self.rest.get(end.ok_or(Broken)?..).ok_or(Broken)?;
        }
    }

    /// A word in or without quotes; none before a semicolon and at the end.
    fn word(&mut self) -> Result<Option<String>, Broken> {
        self.until(&[' ', '\t', ';', '('])
    }

    fn until(&mut self, ends: &[char]) -> Result<Option<String>, Broken> {
        self.skip()?;
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let end = quoted.find(['"', '\\']).ok_or(Broken)?;
            let (word, rest) = quoted.split_at(end);
            self.rest = rest.strip_prefix('"').ok_or(Broken)?;
            return Ok(Some(word.to_string()));
        }
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.contains(['"', ')']) {
            return Err(Broken);
        }
        Ok(Some(word.to_string()).filter(|word| !word.is_empty()))
    }

    /// `name "=" value`; the name in small letters. None for a word without a value, which must be `none`.
    fn pair(&mut self) -> Result<Option<(String, String)>, Broken> {
        let Some(name) = self.until(&[' ', '\t', ';', '(', '='])? else {
            return if self.rest.starts_with('=') { Err(Broken) } else { Ok(None) };
        };
        self.skip()?;
        let Some(rest) = self.rest.strip_prefix('=') else {
            return if name.eq_ignore_ascii_case("none") { Ok(None) } else { Err(Broken) };
        };
        self.rest = rest;
        let value = self.word()?.ok_or(Broken)?;
        Ok(Some((name.to_ascii_lowercase(), value)))
    }

    fn semicolon(&mut self) -> bool {
        if self.skip().is_err() {
            return false;
        }
        match self.rest.strip_prefix(';') {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_real_servers() {
        let google = parse(
            " mx.google.com;       dkim=pass header.i=@by.example header.s=20230601 header.b=Zn3+/a=; \
             spf=pass (google.com: domain of x@by.example; designates 1.2.3.4) smtp.mailfrom=x@by.example; \
             dmarc=pass (p=NONE sp=\\( dis=NONE) header.from=by.example",
        )
        .unwrap();
        assert_eq!((google.id.as_str(), google.all.len()), ("mx.google.com", 3));
        assert_eq!(google.all[0].signer(), Some("by.example"));
        assert_eq!(google.all[0].property("header.b"), Some("Zn3+/a="));
        assert_eq!(google.all[2].property("header.from"), Some("by.example"));
        let other = parse("\"mx\" 1; none").unwrap();
        assert_eq!((other.id.as_str(), other.all.len()), ("mx", 0));
        let other = parse("mx; dkim/1 = pass reason=\"a; b\" header.d=X.example;").unwrap();
        assert_eq!((other.all[0].method.as_str(), other.all[0].signer()), ("dkim", Some("X.example")));
        for broken in [
            "",
            ";",
            "mx 2; none",
            "mx dkim=pass",
            "mx; dkim",
            "mx; dkim=",
            "mx; dkim=pass (header.d=x",
            "mx; dkim=pass header.d=a header.d=b",
            "mx; dkim=pass header.d=\"a",
            "mx; =pass",
            "mx; dkim=pass )",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn who_received_it() {
        for (line, by) in [
            (
                " from a.example (b.example [1.2.3.4]) by mx.by.example (Postfix) with ESMTP id 1",
                Some("mx.by.example"),
            ),
            (" by mx.by.example; today", Some("mx.by.example")),
            (" from by (by mx.by.example) by mx.other.example", Some("mx.other.example")),
            (" from by by.example by mx.other.example", None),
            (" (x", None),
            ("", None),
        ] {
            assert_eq!(receiver(line).as_deref(), by, "{line}");
        }
    }
}
