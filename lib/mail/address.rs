//! Addresses: `local@domain`, alone, with a name, or in a list as header fields and command lines hold them.
//!
//! Pure. What comes out is safe to put between `<` and `>` in an SMTP command: no space outside quotes, no control
//! character, no bracket, a bounded length.

use std::collections::HashSet;
use std::fmt;

use crate::error::{Error, Kind, Result};
use crate::report::is_unsafe;

/// The longest address we handle, in octets: 64 + `@` + 255 (RFC 5321 section 4.5.3.1).
const LONGEST: usize = 320;

/// One envelope address, `local@domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: String,
    at: usize,
}

impl Address {
    /// Reads `local@domain` (RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531); 64 where it is none.
    ///
    /// Quoted local parts and address literals are understood; a local part may begin with `-`, since here nothing
    /// can take it for an option.
    pub fn parse(text: &str) -> Result<Address> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            Error::new(Kind::Usage, format!("{shown:?} is no address"), why)
        };
        if text.len() > LONGEST {
            return Err(wrong("it is too long"));
        }
        let at = match text.strip_prefix('"') {
            Some(rest) => 2 + quoted_end(rest).ok_or_else(|| wrong("its quotes are wrong"))?,
            None => text.rfind('@').ok_or_else(|| wrong("it has no @"))?,
        };
        let (local, domain) = text.split_at_checked(at).ok_or_else(|| wrong("its quotes are wrong"))?;
        let domain = domain.strip_prefix('@').ok_or_else(|| wrong("it has no @ after the quotes"))?;
        if local.is_empty() || !(local.starts_with('"') || local.chars().all(is_local)) {
            return Err(wrong("what stands before the @ is wrong"));
        }
        if !is_domain(domain) {
            return Err(wrong("what stands after the @ is no domain"));
        }
        Ok(Address { text: text.to_string(), at })
    }

    /// What stands before the `@`, quotes included.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// What stands after the `@`.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if it can be sent without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// True if both mean the same recipient: domains know no case, local parts may.
    pub fn is_same(&self, other: &Address) -> bool {
        self.local() == other.local() && self.domain().eq_ignore_ascii_case(other.domain())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Each recipient once, where it stands first; as [`Address::is_same`] knows them.
pub fn each_once(mut list: Vec<Address>) -> Vec<Address> {
    let mut seen = HashSet::with_capacity(list.len());
    list.retain(|address| seen.insert((address.local().to_string(), address.domain().to_ascii_lowercase())));
    list
}

/// Where the quotes that opened before `rest` close, as a byte position in it (RFC 5321 `Quoted-string`).
fn quoted_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if is_unsafe(c) => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// `atext` and the dot; dots are let stand anywhere.
// QUIRK: two dots in a row or one at the end are wrong, but some Japanese carriers gave out such addresses.
fn is_local(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c),
        false => !c.is_whitespace() && !is_unsafe(c),
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !literal.is_empty()
            && literal.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b));
    }
    let is_label = |label: &str| {
        // QUIRK: underscores are no part of host names but stand in mail domains that work.
        let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && is_local(c));
        !label.is_empty() && !label.starts_with('-') && label.chars().all(fits)
    };
    domain.len() <= 255 && domain.split('.').all(is_label)
}

/// An address and perhaps a name to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// What people read.
    pub name: Option<String>,
    /// Where it goes.
    pub address: Address,
}

/// Reads a list as in To: names, angle brackets, quotes, comments and groups (RFC 5322 section 3.4).
///
/// Line breaks must have been unfolded; a control character is refused (64), and so is a list with one wrong
/// address, or with anything but a comment between an address in brackets and the next comma: nobody may get lost.
/// Encoded words in names are left as they are.
pub fn parse_list(text: &str) -> Result<Vec<Mailbox>> {
    parse(text, None)
}

/// The same, but a name without a domain, as programs on this machine give it (`root`), means the address `home`.
pub fn parse_list_at(text: &str, home: &Address) -> Result<Vec<Mailbox>> {
    parse(text, Some(home))
}

fn parse(text: &str, home: Option<&Address>) -> Result<Vec<Mailbox>> {
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
        let what = format!("the address list holds the control character {:?}", c);
        return Err(Error::plain(Kind::Usage, what));
    }
    let open = |what: &str| {
        Error::plain(Kind::Usage, format!("{what} in the address list is opened and not closed"))
    };
    let mut list = Vec::new();
    let mut current = Partial::default();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if let (Some(angle), false) = (&current.angle, c.is_whitespace() || "(,;:".contains(c)) {
            let what = format!("{c:?} stands behind <{}> in the address list", angle.trim());
            return Err(Error::plain(Kind::Usage, what).hint("put a comma between addresses"));
        }
        match c {
            '(' => current.comment = Some(comment(&mut chars).ok_or_else(|| open("a comment"))?),
            '"' => {
                let quoted = until(&mut chars, '"').ok_or_else(|| open("a quoted text"))?;
                current.name.push_str(&unescaped(&quoted));
                current.bare.push_str(&format!("\"{quoted}\""));
            }
            '<' => current.angle = Some(angle(&mut chars).ok_or_else(|| open("a bracket"))?),
            '[' => {
                let literal = until(&mut chars, ']').ok_or_else(|| open("a bracket"))?;
                current.bare.push_str(&format!("[{literal}]"));
            }
            ',' | ';' => list.extend(std::mem::take(&mut current).finish(home)?),
            // What stands before a colon is a group's name, which is no address: those are not to be lost.
            ':' if current.angle.is_some() || current.bare.contains(['@', '>']) => {
                let what = format!("a colon in the address list stands after {:?}", current.bare.trim());
                return Err(Error::plain(Kind::Usage, what));
            }
            ':' => current = Partial::default(),
            _ => {
                current.name.push(c);
                current.bare.push(c);
            }
        }
    }
    list.extend(current.finish(home)?);
    Ok(list)
}

/// Reads a list that must hold exactly one address.
pub fn parse_one(text: &str) -> Result<Mailbox> {
    let mut list = parse_list(text)?;
    match (list.pop(), list.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Error::plain(Kind::Usage, format!("exactly one address is wanted, not {text:?}"))),
    }
}

#[derive(Default)]
struct Partial {
    /// The words, unquoted.
    name: String,
    /// The words as they stand, for an address without brackets.
    bare: String,
    angle: Option<String>,
    comment: Option<String>,
}

impl Partial {
    fn finish(self, home: Option<&Address>) -> Result<Option<Mailbox>> {
        let read = |text: &str| match home {
            Some(home) if !text.is_empty() && text.chars().all(is_local) => Ok((home.clone(), true)),
            _ => Address::parse(text).map(|address| (address, false)),
        };
        let Some(angle) = self.angle else {
            let bare = self.bare.trim();
            if bare.is_empty() {
                return Ok(None);
            }
            let (address, is_bare) = read(bare)?;
            let name = self.comment.filter(|name| !name.trim().is_empty());
            return Ok(Some(Mailbox { name: name.or(is_bare.then(|| bare.to_string())), address }));
        };
        let name = self.name.split_whitespace().collect::<Vec<_>>().join(" ");
        let (address, _) = read(angle.trim())?;
        Ok(Some(Mailbox { name: Some(name).filter(|name| !name.is_empty()), address }))
    }
}

impl fmt::Display for Mailbox {
    /// As in a header field that was not encoded yet: `"Last, First" <a@x>`; encoded words stay as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| is_local(c) && c != '.' || c == ' ';
        match &self.name {
            None => self.address.fmt(f),
            Some(name) if name.chars().all(is_plain) || name.contains("=?") => {
                write!(f, "{name} <{}>", self.address)
            }
            Some(name) => {
                let name = name.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{name}\" <{}>", self.address)
            }
        }
    }
}

/// Inside of brackets; a source route in front (RFC 5321 appendix C) is dropped.
fn angle(chars: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '>' => break,
            '"' => text.push_str(&format!("\"{}\"", until(chars, '"')?)),
            c => text.push(c),
        }
    }
    Some(match text.strip_prefix('@').and_then(|rest| rest.split_once(':')) {
        Some((_, after)) => after.to_string(),
        None => text,
    })
}

/// Up to the closing character, escapes kept; the closing one is taken and left out. `None` if it does not come.
fn until(chars: &mut std::str::Chars<'_>, end: char) -> Option<String> {
    let mut text = String::new();
    loop {
        let c = chars.next()?;
        if c == end {
            return Some(text);
        }
        text.push(c);
        if c == '\\' {
            text.extend(chars.next());
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// Comments nest.
fn comment(chars: &mut std::str::Chars<'_>) -> Option<String> {
    let (mut text, mut depth) = (String::new(), 1);
    loop {
        let c = chars.next()?;
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => {
                text.extend(chars.next());
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            return Some(text);
        }
        text.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses() {
        for (text, local, domain) in [
            ("me@by.example", "me", "by.example"),
            ("-oQ/tmp@x.example", "-oQ/tmp", "x.example"),
            ("\"quoted strings\"@x", "\"quoted strings\"", "x"),
            ("\"a@b\\\"c\"@x.example", "\"a@b\\\"c\"", "x.example"),
            ("a@[127.0.0.1]", "a", "[127.0.0.1]"),
            ("a@[IPv6:::1]", "a", "[IPv6:::1]"),
            ("jürgen@bücher.example", "jürgen", "bücher.example"),
            ("a..b.@docomo.example", "a..b.", "docomo.example"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.local(), address.domain(), address.as_str()), (local, domain, text));
        }
    }

    #[test]
    fn bad_addresses_are_usage_errors() {
        let long = format!("{}@x.example", "a".repeat(10_000));
        for text in [
            "",
            "me",
            "@x",
            "me@",
            "a b@x",
            "a@b c",
            "a@x\r\nRCPT TO:<b@x>",
            "a\n@x",
            "a@x>",
            "<a@x",
            "a,b@x",
            "\"a@x",
            "\"a\r\n\"@x",
            "\"a\"b@x",
            "a@-x",
            "a@x..y",
            "a@[1.2]3",
            "a@[]",
            "a\0@x",
            "\"\u{e9}",
            "a@b@c d",
            "a\u{202e}@x",
            &long,
        ] {
            assert_eq!(Address::parse(text).map_err(|error| error.status()), Err(64), "{text:?}");
        }
    }

    fn list(text: &str) -> Vec<(Option<String>, String)> {
        let list = parse_list(text).unwrap();
        list.into_iter().map(|each| (each.name, each.address.to_string())).collect()
    }

    /// `Path` of RFC 5321 section 4.1.2 without source routes: what stands between the brackets, and what is left.
    fn path(text: &str) -> Option<(&str, &str)> {
        let inside = text.strip_prefix('<')?;
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in inside.char_indices() {
            match c {
                _ if c.is_control() => return None,
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '>' if !quoted => return Some((&inside[..at], &inside[at + 1..])),
                ' ' | '<' if !quoted => return None,
                _ => {}
            }
        }
        None
    }

    proptest::proptest! {
        /// Whatever a list holds, each address in it is one whole path of an SMTP command.
        #[test]
        fn nothing_gets_out_of_the_brackets(text in "[a-c@.<>\"\\\\ ,;:()\\[\\]\r\n\0\u{e9}\u{202e}-]{0,40}") {
            let home = Address::parse("me@by.example").unwrap();
            for list in [parse_list(&text), parse_list_at(&text, &home)].into_iter().flatten() {
                for Mailbox { address, .. } in list {
                    let command = format!("<{address}> SIZE=1");
                    proptest::prop_assert_eq!(path(&command), Some((address.as_str(), " SIZE=1")));
                    proptest::prop_assert_eq!(&Address::parse(address.as_str()).unwrap(), &address);
                    proptest::prop_assert!(address.as_str().len() <= LONGEST);
                }
            }
        }
    }

    #[test]
    fn bare_names_are_at_home() {
        let home = Address::parse("me@by.example").unwrap();
        let text = |list: &str| {
            let list = parse_list_at(list, &home).unwrap();
            list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text("root (Cron Daemon), a@x"), "Cron Daemon <me@by.example>, a@x");
        assert_eq!(text("root, \"L, F\" <www-data>"), "root <me@by.example>, \"L, F\" <me@by.example>");
        assert!(parse_list_at("a b", &home).is_err() && parse_list_at("a>", &home).is_err());
    }

    #[test]
    fn nothing_stands_behind_a_bracket() {
        let home = Address::parse("me@by.example").unwrap();
        for lost in [
            "<b@y> <c@y>",
            "\"x\" <f@y> g@y",
            "<b@y>c@y, d@y",
            "<b@y> \"c\"@y",
            "<b@y> [c]",
            "<b@y>>",
            "a@x, B <b@y> (c) <d@y>",
            "<> <c@y>",
        ] {
            for list in [parse_list(lost), parse_list_at(lost, &home)] {
                assert_eq!(list.map_err(|error| error.status()), Err(64), "{lost}");
            }
        }
        assert_eq!(list("g: B <b@y> (c) ,\t<d@y>\t; ").len(), 2);
    }

    #[test]
    fn lists_as_they_come() {
        let name = |name: &str, address: &str| (Some(name.to_string()), address.to_string());
        let bare = |address: &str| (None, address.to_string());
        assert_eq!(list("a@x, B B <b@x>,, c@x (See)"), [bare("a@x"), name("B B", "b@x"), name("See", "c@x")]);
        assert_eq!(list(r#""Last, First \"F\"" <f@x>"#), [name("Last, First \"F\"", "f@x")]);
        assert_eq!(list("friends: a@x, b@x; c@x"), [bare("a@x"), bare("b@x"), bare("c@x")]);
        assert_eq!(list("undisclosed-recipients:;"), []);
        assert_eq!(list("<@r.example,@s.example:a@x> (no (name) here)"), [bare("a@x")]);
        assert_eq!(list(r#""a,b"@x, <"c>d"@x>"#), [bare("\"a,b\"@x"), bare("\"c>d\"@x")]);
        assert_eq!(list("a@[IPv6:::1], b@x"), [bare("a@[IPv6:::1]"), bare("b@x")]);
        for lost in ["a@x (b, c@x", "a@x, \"b <c@x>", "a@x, B <b@x, c@x", "a@x: b@x;", "<a@x> b: c@x;"] {
            assert_eq!(parse_list(lost).map_err(|error| error.status()), Err(64), "{lost}");
        }
        assert!(parse_list("a@x, b").is_err() && parse_list("a@x\r\nBcc: b@x").is_err());
        assert!(parse_one("a@x, b@x").is_err() && parse_one("").is_err());
    }
}
