//! Header fields of a message or part, and the few structured ones that ENVELOPE and BODYSTRUCTURE show.

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub name: &'a [u8],
    /// All of it, folded lines and line ends included.
    pub raw: &'a [u8],
    /// What stands after the colon, line ends included.
    pub value: &'a [u8],
}

/// The fields of a header, in order. A line that is no field is passed over with its folded lines.
pub fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let mut end = line_end(rest, 0);
            while rest.get(end).is_some_and(|b| matches!(b, b' ' | b'\t')) {
                end = line_end(rest, end);
            }
            let (raw, after) = rest.split_at(end);
            rest = after;
            let Some(colon) = memchr::memchr(b':', raw) else { continue };
            let name = raw.get(..colon).unwrap_or(&[]).trim_ascii_end();
            if !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic()) {
                return Some(Field { name, raw, value: raw.get(colon + 1..).unwrap_or(&[]) });
            }
        }
    })
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or(&[]);
    memchr::memchr(b'\n', rest).map_or(bytes.len(), |at| from + at + 1)
}

/// The first field of that name, unfolded and trimmed.
pub fn value(head: &[u8], name: &str) -> Option<Vec<u8>> {
    fields(head)
        .find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| unfold(field.value))
}

/// Without line ends.
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let kept: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).collect();
    kept.trim_ascii().to_vec()
}

/// One entry of an address list, as ENVELOPE shows them (RFC 3501 section 7.4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    One { name: Option<Vec<u8>>, local: Vec<u8>, domain: Vec<u8> },
    GroupStart(Vec<u8>),
    GroupEnd,
}

/// A piece of a structured field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Vec<u8>),
    Quoted(Vec<u8>),
    Comment(Vec<u8>),
    Mark(u8),
}

/// The addresses of a field; what makes no sense is taken as well as it can be.
pub fn addresses(value: &[u8]) -> Vec<Address> {
    let mut found = Vec::new();
    let mut entry = Entry::default();
    for token in tokens(value, b"<>,;:@") {
        match token {
            Token::Mark(b'<') => entry.angle = Some(Vec::new()),
            Token::Mark(b'>') => entry.closed = true,
            Token::Mark(b',') => entry.finish(&mut found),
            Token::Mark(b':') if entry.angle.is_none() => {
                let name = join(&entry.words, true);
                found.push(Address::GroupStart(name));
                entry = Entry { in_group: true, ..Entry::default() };
            }
            Token::Mark(b';') if entry.in_group => {
                entry.finish(&mut found);
                entry.in_group = false;
                found.push(Address::GroupEnd);
            }
            Token::Comment(text) => entry.comment = Some(text),
            token => match &mut entry.angle {
                Some(inner) if !entry.closed => inner.push(token),
                _ => entry.words.push(token),
            },
        }
    }
    entry.finish(&mut found);
    found
}

#[derive(Default)]
struct Entry {
    words: Vec<Token>,
    angle: Option<Vec<Token>>,
    closed: bool,
    comment: Option<Vec<u8>>,
    in_group: bool,
}

impl Entry {
    fn finish(&mut self, found: &mut Vec<Address>) {
        let Entry { words, angle, comment, in_group, .. } = std::mem::take(self);
        self.in_group = in_group;
        let (name, tokens) = match angle {
            // A source route `@a,@b:x@y` is obsolete and dropped.
            Some(inner) => {
                let from = inner.iter().rposition(|t| *t == Token::Mark(b':')).map_or(0, |at| at + 1);
                (Some(join(&words, true)), inner.get(from..).unwrap_or(&[]).to_vec())
            }
            None => (None, words),
        };
        if tokens.is_empty() && name.as_ref().is_none_or(Vec::is_empty) {
            return;
        }
        let at = tokens.iter().rposition(|t| *t == Token::Mark(b'@')).unwrap_or(tokens.len());
        let local = join(tokens.get(..at).unwrap_or(&[]), false);
        let domain = join(tokens.get(at + 1..).unwrap_or(&[]), false);
        let name = name.filter(|name| !name.is_empty()).or(comment);
        found.push(Address::One { name, local, domain });
    }
}

fn join(tokens: &[Token], spaced: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens {
        if spaced && !out.is_empty() {
            out.push(b' ');
        }
        match token {
            Token::Word(text) | Token::Quoted(text) | Token::Comment(text) => out.extend_from_slice(text),
            Token::Mark(mark) => out.push(*mark),
        }
    }
    out
}

/// A value with parameters: Content-Type, Content-Disposition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// In lower case.
    pub value: Vec<u8>,
    /// Names as written, in order.
    pub list: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parameters {
    /// Reads `value; name=value; name="value"`.
    pub fn parse(text: &[u8]) -> Parameters {
        let mut parts: Vec<Vec<Token>> = vec![Vec::new()];
        for token in tokens(text, b";=") {
            match (token, parts.last_mut()) {
                (Token::Mark(b';'), _) => parts.push(Vec::new()),
                (Token::Comment(_), _) | (_, None) => {}
                (token, Some(part)) => part.push(token),
            }
        }
        let mut parts = parts.into_iter();
        let value = parts.next().map(|part| join(&part, false).to_ascii_lowercase()).unwrap_or_default();
        let list = parts
            .filter_map(|part| {
                let at = part.iter().position(|token| *token == Token::Mark(b'='))?;
                let name = join(part.get(..at)?, false);
                (!name.is_empty()).then(|| (name, join(part.get(at + 1..).unwrap_or(&[]), true)))
            })
            .collect();
        Parameters { value, list }
    }

    /// A parameter by name, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let known = |(other, _): &&(Vec<u8>, Vec<u8>)| other.eq_ignore_ascii_case(name.as_bytes());
        self.list.iter().find(known).map(|(_, value)| value.as_slice())
    }
}

fn tokens(text: &[u8], marks: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        match b {
            b' ' | b'\t' | b'\r' | b'\n' | 0 => {}
            b'"' => found.push(Token::Quoted(enclosed(&mut rest, 0, b'"'))),
            b'(' => found.push(Token::Comment(enclosed(&mut rest, b'(', b')'))),
            b if marks.contains(&b) => found.push(Token::Mark(b)),
            _ => {
                let stops =
                    |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'(' | 0) || marks.contains(b);
                let len = rest.iter().position(stops).unwrap_or(rest.len());
                let (word, after) = rest.split_at(len);
                rest = after;
                let mut whole = vec![b];
                whole.extend_from_slice(word);
                found.push(Token::Word(whole));
            }
        }
    }
    found
}

/// Up to the closing byte, backslashes resolved; `open` nests.
fn enclosed(rest: &mut &[u8], open: u8, close: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut depth = 1;
    while let Some((&b, after)) = rest.split_first() {
        *rest = after;
        match b {
            b'\\' => {
                if let Some((&next, after)) = rest.split_first() {
                    out.push(next);
                    *rest = after;
                }
                continue;
            }
            b if b == close => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            b if b == open && open != 0 => depth += 1,
            b'\r' | b'\n' => continue,
            _ => {}
        }
        out.push(b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: Option<&str>, local: &str, domain: &str) -> Address {
        let name = name.map(|name| name.as_bytes().to_vec());
        Address::One { name, local: local.into(), domain: domain.into() }
    }

    #[test]
    fn address_lists() {
        let list = addresses(
            b"Ann <ann@a.example>, \"Bob, B.\" <bob@b.example>, c@c.example (Cy), team: d@d.example;, undisclosed:;",
        );
        assert_eq!(
            list,
            [
                one(Some("Ann"), "ann", "a.example"),
                one(Some("Bob, B."), "bob", "b.example"),
                one(Some("Cy"), "c", "c.example"),
                Address::GroupStart(b"team".to_vec()),
                one(None, "d", "d.example"),
                Address::GroupEnd,
                Address::GroupStart(b"undisclosed".to_vec()),
                Address::GroupEnd,
            ]
        );
        assert!(addresses(b" , ,").is_empty());
    }

    #[test]
    fn parameters_quoted_and_not() {
        let p = Parameters::parse(b"Application/PDF; name=\"a; b.pdf\" (x); Charset=utf-8;");
        assert_eq!(p.value, b"application/pdf");
        assert_eq!(p.get("NAME"), Some(&b"a; b.pdf"[..]));
        assert_eq!(p.get("charset"), Some(&b"utf-8"[..]));
    }

    #[test]
    fn fields_are_folded_and_nonsense_is_passed_over() {
        let head = b"A: 1\r\n 2\r\nnonsense\r\n more\r\nB:3\r\n\r\n";
        let names: Vec<_> = fields(head).map(|f| (f.name.to_vec(), unfold(f.value))).collect();
        assert_eq!(names, [(b"A".to_vec(), b"1 2".to_vec()), (b"B".to_vec(), b"3".to_vec())]);
    }
}
