//! Commands about mailboxes as a whole: LIST, LSUB, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

use std::collections::BTreeSet;
use std::io::Write;

use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::mailbox::ListMailbox;
use imap_codec::imap_types::status::StatusDataItemName;

use super::command::ListCommand;
use super::words::astring;
use super::{Answer, Answered, Session, name_of};

/// How a LIST is to be answered.
struct Listing<'a> {
    /// `LIST` or `LSUB`.
    word: &'a str,
    subscribed: bool,
    status: Option<&'a [StatusDataItemName]>,
}

impl Session<'_> {
    pub(super) fn about_mailboxes(&mut self, body: CommandBody<'static>) -> Answered {
        let account = self.account()?;
        let done = match body {
            CommandBody::List { reference, mailbox_wildcard } => {
                let listing = Listing { word: "LIST", subscribed: false, status: None };
                return self.list(&name_of(&reference), &pattern_of(&mailbox_wildcard), &listing);
            }
            CommandBody::Lsub { reference, mailbox_wildcard } => {
                let listing = Listing { word: "LSUB", subscribed: true, status: None };
                return self.list(&name_of(&reference), &pattern_of(&mailbox_wildcard), &listing);
            }
            CommandBody::Status { mailbox, item_names } => {
                return self.status(&name_of(&mailbox), &item_names);
            }
            CommandBody::Create { mailbox } => account.create(&name_of(&mailbox)),
            CommandBody::Delete { mailbox } => account.delete(&name_of(&mailbox)),
            CommandBody::Rename { from, to } => account.rename(&name_of(&from), &name_of(&to)),
            CommandBody::Subscribe { mailbox } => account.subscribe(&name_of(&mailbox), true),
            CommandBody::Unsubscribe { mailbox } => account.subscribe(&name_of(&mailbox), false),
            _ => return Ok(Answer::bad("not done here")),
        };
        Ok(done.map_or_else(Answer::from, |()| Answer::ok("done")))
    }

    pub(super) fn list_with_options(&mut self, list: &ListCommand) -> Answered {
        let CommandBody::List { reference, mailbox_wildcard } = &list.command.body else {
            return Ok(Answer::bad("cannot understand that"));
        };
        if self.account.is_none() {
            return Ok(Answer::bad("log in first"));
        }
        let listing = Listing { word: "LIST", subscribed: list.subscribed, status: list.status.as_deref() };
        self.list(&name_of(reference), &pattern_of(mailbox_wildcard), &listing)
    }

    fn list(&mut self, reference: &str, pattern: &str, listing: &Listing<'_>) -> Answered {
        let word = listing.word;
        if pattern.is_empty() {
            // RFC 3501 section 6.3.8: an empty pattern asks for the delimiter.
            write!(self.wire, "* {word} (\\Noselect) \"/\" \"\"\r\n")?;
            return Ok(Answer::ok("that is all"));
        }
        let account = self.account()?;
        let there = account.names()?;
        let names = if listing.subscribed { account.subscriptions()? } else { there.clone() };
        let pattern = format!("{reference}{pattern}");
        for name in with_parents(&names) {
            if !matches(pattern.as_bytes(), name.as_bytes()) {
                continue;
            }
            let named = names.contains(&name);
            // A parent that is only implied is shown where the pattern stops at it, so that it can be opened up.
            if !named
                && (listing.subscribed && word == "LIST" || !pattern.ends_with('%') && there.contains(&name))
            {
                continue;
            }
            let under = format!("{name}/");
            let children = there.iter().any(|other| other.starts_with(&under));
            let mut attributes = vec![if children { "\\HasChildren" } else { "\\HasNoChildren" }];
            if !there.contains(&name) || !named {
                attributes.insert(0, "\\Noselect");
            }
            if listing.subscribed && word == "LIST" {
                attributes.push("\\Subscribed");
            }
            write!(self.wire, "* {word} ({}) \"/\" {}\r\n", attributes.join(" "), astring(name.as_bytes()))?;
            if let Some(items) = listing.status
                && there.contains(&name)
            {
                self.status(&name, items)?;
            }
        }
        Ok(Answer::ok("that is all"))
    }

    fn status(&mut self, name: &str, items: &[StatusDataItemName]) -> Answered {
        let mailbox = match self.account()?.mailbox(name) {
            Ok(mailbox) => mailbox,
            Err(refusal) => return Ok(refusal.into()),
        };
        mailbox.refresh()?;
        let counts = mailbox.counts();
        let mut told = Vec::new();
        for item in items {
            told.push(match item {
                StatusDataItemName::Messages => format!("MESSAGES {}", counts.messages),
                StatusDataItemName::Recent => format!("RECENT {}", counts.recent),
                StatusDataItemName::UidNext => format!("UIDNEXT {}", counts.uidnext),
                StatusDataItemName::UidValidity => format!("UIDVALIDITY {}", counts.uidvalidity),
                StatusDataItemName::Unseen => format!("UNSEEN {}", counts.unseen),
                StatusDataItemName::Deleted => format!("DELETED {}", counts.deleted),
                _ => return Ok(Answer::bad("unknown STATUS item")),
            });
        }
        write!(self.wire, "* STATUS {} ({})\r\n", astring(name.as_bytes()), told.join(" "))?;
        Ok(Answer::ok("that is all"))
    }
}

fn pattern_of(pattern: &ListMailbox<'_>) -> String {
    let bytes = match pattern {
        ListMailbox::Token(token) => token.as_ref(),
        ListMailbox::String(string) => string.as_ref(),
    };
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names and every parent that only a child implies.
fn with_parents(names: &BTreeSet<String>) -> BTreeSet<String> {
    let parents = names.iter().flat_map(|name| name.match_indices('/').filter_map(|(at, _)| name.get(..at)));
    parents.map(str::to_string).chain(names.iter().cloned()).collect()
}

/// `*` stands for anything, `%` for anything without a delimiter (RFC 3501 section 6.3.8); INBOX is INBOX in any case.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name == b"INBOX" && pattern.eq_ignore_ascii_case(b"INBOX") {
        return true;
    }
    // Each star or percent remembers where it may take one byte more: linear in the usual case, never exponential.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for &p in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            match p {
                b'*' | b'%' => {
                    let byte = at.checked_sub(1).and_then(|before| name.get(before));
                    let grows = byte.is_some_and(|b| p == b'*' || *b != b'/');
                    next[at] = reached[at] || (grows && next[at - 1]);
                }
                _ => next[at] = at > 0 && reached[at - 1] && name[at - 1] == p,
            }
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_percents() {
        for (pattern, name, wanted) in [
            ("*", "a/b/c", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("a*c", "a/b/c", true),
            ("a%c", "abc", true),
            ("a%c", "a/c", false),
            ("inbox", "INBOX", true),
            ("in%", "INBOX", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} {name}");
        }
    }
}
