//! Reads one command off the wire, literals included, and has imap-codec understand it.
//!
//! The frame (line, literal, line …) is found here first, so that a command which makes no sense is passed over
//! whole and the session goes on in step. An APPEND's message stays on the wire, for the session to stream to disk.

use std::io::{self, Write};

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::command::{Command, CommandBody};
use imap_codec::imap_types::status::StatusDataItemName;

use crate::sandbox::wire::{Line, Wire};

/// Longest command without its message, literals included.
const COMMAND_LIMIT: usize = 1 << 20;
/// Longest line of it.
const LINE_LIMIT: usize = 256 * 1024;

/// What the client wants.
pub enum Wanted {
    /// A command as RFC 3501 and extensions know it.
    Command(Box<Command<'static>>),
    /// STARTTLS, which the codec does not know in this build.
    StartTls { tag: String },
    /// LIST with selection or return options (RFC 5258, RFC 5819).
    List(Box<ListCommand>),
    /// APPEND up to its literal, which is still to be read.
    Append(Box<AppendCommand>),
    /// Nothing that we understand; the tag is `*` where there is none.
    Bad { tag: String, why: &'static str },
    /// The client has gone.
    End,
}

/// LIST with options; the plain command says which mailboxes.
pub struct ListCommand {
    pub command: Command<'static>,
    /// Only mailboxes subscribed to.
    pub subscribed: bool,
    /// Send a STATUS with these for each.
    pub status: Option<Vec<StatusDataItemName>>,
}

/// APPEND whose message has not been read.
pub struct AppendCommand {
    /// With a placeholder of one byte as the message.
    pub command: Command<'static>,
    /// Bytes to come.
    pub size: u64,
    /// The client waits for a `+` before it sends.
    pub waits: bool,
}

/// Reads the next command.
pub fn read(wire: &mut Wire) -> io::Result<Wanted> {
    let mut text = Vec::new();
    let mut too_long = false;
    loop {
        let line = match wire.line(LINE_LIMIT)? {
            Line::Whole(line) => line,
            Line::TooLong => return Ok(Wanted::Bad { tag: tag_of(&text), why: "the line is too long" }),
            Line::End => return Ok(Wanted::End),
        };
        text.extend_from_slice(&line);
        let Some(literal) = Literal::at_end_of(&line) else { break };
        if let Some(append) = append_before(&text, &literal) {
            return Ok(Wanted::Append(Box::new(append)));
        }
        too_long |= literal.size > (COMMAND_LIMIT - text.len().min(COMMAND_LIMIT)) as u64;
        if literal.waits {
            if too_long {
                return Ok(Wanted::Bad { tag: tag_of(&text), why: "the literal is too long" });
            }
            wire.write_all(b"+ go ahead\r\n")?;
        }
        text.extend_from_slice(b"\r\n");
        wire.exactly(literal.size, |piece| {
            if !too_long {
                text.extend_from_slice(piece);
            }
            Ok(())
        })??;
    }
    text.extend_from_slice(b"\r\n");
    let tag = tag_of(&text);
    match too_long {
        true => Ok(Wanted::Bad { tag, why: "the literal is too long" }),
        false => Ok(understand(&text, tag)),
    }
}

fn understand(text: &[u8], tag: String) -> Wanted {
    let mut words = text.split(|b| b.is_ascii_whitespace()).skip(1);
    let verb = words.next().unwrap_or(b"").to_ascii_uppercase();
    if verb == b"STARTTLS" && words.all(<[u8]>::is_empty) {
        return Wanted::StartTls { tag };
    }
    if let Some(command) = decode(text) {
        return Wanted::Command(Box::new(command));
    }
    match (verb == b"LIST").then(|| list_with_options(text)).flatten() {
        Some(list) => Wanted::List(Box::new(list)),
        None => Wanted::Bad { tag, why: "cannot understand that" },
    }
}

fn decode(text: &[u8]) -> Option<Command<'static>> {
    match CommandCodec::default().decode_static(text) {
        Ok(([], command)) => Some(command),
        _ => None,
    }
}

/// `tag LIST [(SUBSCRIBED)] reference pattern [RETURN (CHILDREN SUBSCRIBED STATUS (…))]`: the options are cut off
/// and read here, the rest is a plain LIST for the codec.
fn list_with_options(text: &[u8]) -> Option<ListCommand> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let (tag, rest) = text.split_once(' ')?;
    let mut rest = rest.get("LIST ".len()..)?;
    let mut subscribed = false;
    if let Some(selection) = rest.strip_prefix('(') {
        let (options, after) = selection.split_once(") ")?;
        subscribed = options.split(' ').any(|option| option.eq_ignore_ascii_case("SUBSCRIBED"));
        rest = after;
    }
    let upper = rest.to_ascii_uppercase();
    let mut status = None;
    if let Some(at) = upper.rfind(" RETURN (").filter(|_| upper.ends_with(')')) {
        status = status_option(tag, upper.get(at + " RETURN (".len()..upper.len() - 1)?)?;
        rest = rest.get(..at)?;
    }
    let command = decode(format!("{tag} LIST {rest}\r\n").as_bytes())?;
    Some(ListCommand { command, subscribed, status })
}

/// The items of STATUS among return options; the inner `None` if it is not among them.
fn status_option(tag: &str, options: &str) -> Option<Option<Vec<StatusDataItemName>>> {
    let Some(at) = options.find("STATUS (") else { return Some(None) };
    let items = options.get(at + "STATUS (".len()..)?;
    let (items, _) = items.split_once(')')?;
    match decode(format!("{tag} STATUS x ({items})\r\n").as_bytes())?.body {
        CommandBody::Status { item_names, .. } => Some(Some(item_names.into_owned())),
        _ => None,
    }
}

/// `{12}` or `{12+}` (RFC 7888) where a line ends.
struct Literal {
    size: u64,
    waits: bool,
    /// Length of its text.
    len: usize,
}

impl Literal {
    fn at_end_of(line: &[u8]) -> Option<Literal> {
        let inner = line.strip_suffix(b"}")?;
        let at = memchr::memrchr(b'{', inner)?;
        let digits = inner.get(at + 1..)?;
        let (digits, waits) = digits.strip_suffix(b"+").map_or((digits, true), |digits| (digits, false));
        let size = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Literal { size, waits, len: line.len() - at })
    }
}

/// If `text` is an APPEND and this literal its message: the command, read with a stand-in for the message.
fn append_before(text: &[u8], literal: &Literal) -> Option<AppendCommand> {
    let verb = text.split(|b| *b == b' ').nth(1)?;
    if !verb.eq_ignore_ascii_case(b"APPEND") {
        return None;
    }
    let mut stand_in = text.get(..text.len() - literal.len)?.to_vec();
    stand_in.extend_from_slice(b"{1}\r\nx\r\n");
    let command = decode(&stand_in)?;
    Some(AppendCommand { command, size: literal.size, waits: literal.waits })
}

/// The first word if it can be a tag.
fn tag_of(text: &[u8]) -> String {
    let word = text.split(|b| b.is_ascii_whitespace()).next().unwrap_or(b"");
    let fine = |b: &u8| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(b);
    match !word.is_empty() && word.len() <= 100 && word.iter().all(fine) {
        true => String::from_utf8_lossy(word).into_owned(),
        false => "*".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_are_cut_off() {
        let list = list_with_options(
            b"a list (SUBSCRIBED) \"\" \"*\" return (CHILDREN STATUS (MESSAGES UIDNEXT))\r\n",
        );
        let list = list.unwrap();
        assert!(list.subscribed);
        assert_eq!(list.status, Some(vec![StatusDataItemName::Messages, StatusDataItemName::UidNext]));
        assert!(list_with_options(b"a LIST \"\" % RETURN (STATUS (NONSENSE))\r\n").is_none());
    }

    #[test]
    fn an_append_is_known_at_its_message_only() {
        let literal = |text: &[u8]| Literal::at_end_of(text).unwrap();
        let whole = b"a APPEND INBOX (\\Seen) {310+}";
        let append = append_before(whole, &literal(whole)).unwrap();
        assert_eq!((append.size, append.waits), (310, false));
        let name = b"a APPEND {5}";
        assert!(append_before(name, &literal(name)).is_none());
    }
}
