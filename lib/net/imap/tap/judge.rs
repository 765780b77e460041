//! What kind of response a line begins, and what of it the imap crate may see.

use std::io;

use crate::net::imap::found;
use crate::report;

use super::response::{drop_or_line, literal};
use super::{Idle, Response, Shared, Tap};

/// No server can do more things.
const MOST_WORDS: usize = 500;

impl Tap {
    /// Decides about one whole line: pass it, change it, keep it from the crate.
    pub(super) fn judge(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        // QUIRK: a server that ends lines with LF alone would confuse the crate.
        if !line.ends_with(b"\r\n") {
            line.pop();
            line.extend_from_slice(b"\r\n");
        }
        self.trace(&line);
        if self.response == Response::None {
            self.response = self.classify(&mut line)?;
        }
        if self.response != Response::None {
            self.count(line.len() as u64)?;
        }
        match self.response {
            Response::None => {
                self.out.extend_from_slice(&line);
                return Ok(());
            }
            Response::Text => self.response = Response::None,
            Response::Dropped => match literal(&line)? {
                Some((_, size)) => {
                    self.count(size)?;
                    self.state = drop_or_line(size);
                }
                None => self.response = Response::None,
            },
            Response::Fetch | Response::Collected => self.collect(&line)?,
        }
        Ok(())
    }

    /// While IDLE runs nothing is kept, and it ends in time.
    fn count(&mut self, octets: u64) -> io::Result<()> {
        let waits = matches!(self.shared.borrow().idle, Idle::Waits(_));
        if waits { Ok(()) } else { self.measure.said(octets) }
    }

    fn trace(&self, line: &[u8]) {
        if report::voice() < 2 {
            return;
        }
        let (shared, text) = (self.shared.borrow(), String::from_utf8_lossy(line));
        match shared.hush {
            true => report::trace(format_args!("S: {}", outline(&text))),
            false => report::trace(format_args!("S: {}", shared.hidden.cover(text.trim_end()))),
        }
    }

    /// What kind of response begins with this line. Lines that the crate needs no more become `Dropped`.
    fn classify(&mut self, line: &mut Vec<u8>) -> io::Result<Response> {
        let shared = self.shared.clone();
        let mut shared = shared.borrow_mut();
        if !line.starts_with(b"* ") {
            if line.starts_with(b"+") && shared.idle.begin() {
                return Ok(Response::Text);
            }
            if line.starts_with(b"+") {
                self.measure.question()?;
                return Ok(Response::None);
            }
            self.measure.answered();
            soothe(line, &mut shared);
            if std::mem::take(&mut shared.packing) && shared.status.to_ascii_uppercase().starts_with("OK") {
                self.pack();
            }
            return Ok(Response::None);
        }
        let text = String::from_utf8_lossy(&line[2..]).trim_end().to_ascii_uppercase();
        let mut words = text.split(' ');
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Ok(number) = first.parse::<u32>() {
            return Ok(match second {
                "EXISTS" => {
                    // QUIRK: servers say it again with each IDLE; that must not end each at once.
                    shared.news |= shared.exists != Some(number);
                    shared.exists = Some(number);
                    Response::Dropped
                }
                "EXPUNGE" => {
                    shared.exists = shared.exists.map(|number| number.saturating_sub(1));
                    Response::Dropped
                }
                "FETCH" if shared.sink.is_some() => self.reading(line, Response::Fetch),
                "FETCH" if shared.collected.is_some() => self.reading(line, Response::Collected),
                // Flags that changed elsewhere are of no use to a one-way fetch.
                _ => Response::Dropped,
            });
        }
        Ok(match first {
            "CAPABILITY" => {
                shared.capabilities = text.split(' ').skip(1).take(MOST_WORDS).map(String::from).collect();
                Response::Dropped
            }
            "ENABLED" => {
                shared.enabled = text.split_whitespace().skip(1).take(MOST_WORDS).map(String::from).collect();
                Response::Dropped
            }
            "BYE" => {
                shared.bye = Some(String::from_utf8_lossy(&line[2..]).trim_end().to_string());
                Response::Text
            }
            "NO" | "BAD" => {
                let said = shared.hidden.shown(&String::from_utf8_lossy(&line[2..]));
                report::detail(format_args!("the server says: {said}"));
                Response::Text
            }
            "OK" => {
                // QUIRK: some servers say more after the bracket than belongs there.
                let number = words.next().and_then(|word| word.split(']').next()?.parse().ok());
                match second {
                    "[UIDVALIDITY" => shared.numbers.0 = number,
                    "[UIDNEXT" => shared.numbers.1 = number,
                    _ => {}
                }
                if let Some((_, _, words)) = bracketed(&text) {
                    shared.capabilities = words;
                }
                Response::Text
            }
            "LIST" | "STATUS" if shared.collected.is_some() => self.reading(line, Response::Collected),
            "SEARCH" | "ESEARCH" => {
                if let Some(found) = &mut shared.found {
                    found::take(&text, found)?;
                }
                Response::Dropped
            }
            _ => Response::Dropped,
        })
    }

    /// The response is read here; its `* ` is of no more use.
    fn reading(&mut self, line: &mut Vec<u8>, response: Response) -> Response {
        line.drain(..2);
        (self.begun, self.head) = (None, Vec::new());
        response
    }
}

/// What a line is, and nothing of what it says.
fn outline(line: &str) -> String {
    let mut words = line.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_tag = first.strip_prefix('a').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let known =
        ["OK", "NO", "BAD", "BYE", "CAPABILITY"].iter().find(|word| second.eq_ignore_ascii_case(word));
    match (first, known) {
        ("+", _) => "+ (…)".into(),
        ("*", Some(word)) => format!("* {word} (…)"),
        ("*", None) => "* (…)".into(),
        (tag, Some(word)) if is_tag => format!("{tag} {word} (…)"),
        _ => "(…)".into(),
    }
}

/// Status lines: capabilities and the text are kept for us; codes and texts that the crate cannot parse are left out.
fn soothe(line: &mut Vec<u8>, shared: &mut Shared) {
    let text = String::from_utf8_lossy(line).into_owned();
    if let Some((_, _, words)) = bracketed(&text.to_ascii_uppercase()) {
        shared.capabilities = words;
    }
    shared.status = text.split_once(' ').map_or("", |(_, rest)| rest).trim().to_string();
    let mut words = shared.status.splitn(2, ' ');
    let tag = text.split(' ').next().unwrap_or_default();
    let (status, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
    let said = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, said)) => said.trim(),
        None => rest,
    };
    let said: String = said.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    // The crate wants some text, and it reads a bracket as a code.
    let said = if said.is_empty() { "done" } else { said.trim_start_matches('[') };
    *line = format!("{tag} {} {said}\r\n", status.to_ascii_uppercase()).into_bytes();
}

/// Where `[CAPABILITY …]` begins and ends in a line in upper case, and the words in it.
pub(in crate::net::imap) fn bracketed(upper: &str) -> Option<(usize, usize, Vec<String>)> {
    let at = upper.find("[CAPABILITY ")?;
    let end = at + upper.get(at..)?.find(']')?;
    let words = upper.get(at + 12..end)?.split_whitespace().take(MOST_WORDS).map(String::from).collect();
    Some((at, end + 1, words))
}
