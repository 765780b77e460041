//! Commands that change what is in a mailbox: APPEND, STORE, COPY, MOVE, EXPUNGE, CLOSE.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::flag::{Flag, StoreResponse, StoreType};
use imap_codec::imap_types::mailbox::Mailbox as MailboxName;
use imap_codec::imap_types::sequence::SequenceSet;

use super::command::AppendCommand;
use super::view::{Named, View, ranges, set_of};
use super::{Answer, Answered, Session, disk_trouble, name_of};
use crate::sandbox::maildir::{Flags, Mailbox, NewMessage};
use crate::sandbox::wire::Line;

/// RFC 3501 leaves the number of keywords to us.
const MOST_KEYWORDS: usize = 100;

impl Session<'_> {
    pub(super) fn change(&mut self, body: CommandBody<'static>) -> Answered {
        match body {
            CommandBody::Store { sequence_set, kind, response, flags, uid, .. } => {
                self.store(&sequence_set, uid, &kind, &response, &flags)
            }
            CommandBody::Copy { sequence_set, mailbox, uid } => {
                self.copy(&sequence_set, uid, &mailbox, false)
            }
            CommandBody::Move { sequence_set, mailbox, uid } => self.copy(&sequence_set, uid, &mailbox, true),
            CommandBody::Expunge => self.expunge(None),
            CommandBody::ExpungeUid { sequence_set } => self.expunge(Some(&sequence_set)),
            CommandBody::Close => {
                // RFC 3501 section 6.4.2: CLOSE expunges and tells nothing of it.
                let view = self.view.take();
                if let Some(view) = view.filter(|view| !view.read_only) {
                    view.mailbox.expunge(&deleted(&view))?;
                }
                Ok(Answer::ok("closed"))
            }
            _ => Ok(Answer::bad("not done here")),
        }
    }

    /// Reads the message straight into the Maildir. Where it cannot be taken, a client that waits is told so before it
    /// sends it; one that does not wait has its bytes read and thrown away.
    pub(super) fn append(&mut self, append: AppendCommand) -> Answered {
        let CommandBody::Append { mailbox, flags, date, .. } = &append.command.body else {
            return Ok(Answer::bad("cannot understand that"));
        };
        let target = match &self.account {
            None => Err(Answer::bad("log in first")),
            Some(_) if append.size > self.house.max_size => {
                Err(Answer::no("[TOOBIG] the message is too big"))
            }
            Some(account) => {
                account.mailbox(&name_of(mailbox)).map_err(|refusal| match Answer::from(refusal) {
                    Answer::No(words) => Answer::No(words.replace("[NONEXISTENT]", "[TRYCREATE]")),
                    other => other,
                })
            }
        };
        let opened = target.and_then(|mailbox| match mailbox.incoming() {
            Ok(incoming) => Ok((mailbox, incoming)),
            Err(why) => Err(Answer::No(disk_trouble(&why))),
        });
        let (mailbox, mut incoming) = match opened {
            Ok(opened) => opened,
            Err(answer) if append.waits => return Ok(answer),
            Err(answer) => {
                let _ = self.wire.exactly(append.size, |_| Ok(()))?;
                self.rest_of_line()?;
                return Ok(answer);
            }
        };
        if append.waits {
            self.wire.write_all(b"+ go ahead\r\n")?;
        }
        let written = self.wire.exactly(append.size, |piece| incoming.write_all(piece))?;
        if !self.rest_of_line()? {
            return Ok(Answer::bad("one message only"));
        }
        let (system, keywords) = sort_flags(flags);
        let date = date.as_ref().map(|date| at_seconds(date.as_ref().timestamp()));
        let stored = written
            .and_then(|()| incoming.finish(date))
            .and_then(|piece| mailbox.add(&[NewMessage { flags: system, keywords, ..piece }]));
        match stored {
            Ok(uids) => {
                let code = format!("[APPENDUID {} {}]", mailbox.uidvalidity(), set_of(&uids));
                Ok(Answer::Ok(format!("{code} stored")))
            }
            Err(why) => Ok(Answer::No(disk_trouble(&why))),
        }
    }

    /// True if nothing but the line end is left of the command.
    fn rest_of_line(&mut self) -> io::Result<bool> {
        match self.wire.line(64 * 1024)? {
            Line::Whole(line) => Ok(line.is_empty()),
            Line::TooLong => Ok(false),
            Line::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn store(
        &mut self,
        set: &SequenceSet,
        by_uid: bool,
        kind: &StoreType,
        response: &StoreResponse,
        flags: &[Flag<'_>],
    ) -> Answered {
        let Some(view) = &mut self.view else { return Ok(Answer::bad("select a mailbox first")) };
        if view.read_only {
            return Ok(Answer::no("[READ-ONLY] the mailbox was opened to look only"));
        }
        let Some(named) = view.resolve(set, by_uid) else { return Ok(Answer::bad("no such message")) };
        let (system, keywords) = sort_flags(flags);
        let known = view.mailbox.keywords();
        if known.iter().chain(&keywords).collect::<HashSet<_>>().len() > MOST_KEYWORDS {
            return Ok(Answer::no("[LIMIT] too many keywords"));
        }
        let change = |present: Flags, words: &[String]| {
            let others = || words.iter().filter(|word| !has_word(&keywords, word)).cloned();
            match kind {
                StoreType::Replace => (system, keywords.clone()),
                StoreType::Add => (
                    present.with(system),
                    words
                        .iter()
                        .cloned()
                        .chain(keywords.iter().filter(|word| !has_word(words, word)).cloned())
                        .collect(),
                ),
                StoreType::Remove => (present.without(system), others().collect()),
            }
        };
        let uids: Vec<u32> = named.iter().map(|named| named.uid).collect();
        let stored = match view.mailbox.store(&uids, change) {
            Ok(stored) => stored,
            Err(why) => return Ok(Answer::No(disk_trouble(&why))),
        };
        if keywords.iter().any(|word| !has_word_in(&known, word)) {
            let all: String = view.mailbox.keywords().iter().map(|word| format!(" {word}")).collect();
            write!(self.wire, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft{all})\r\n")?;
        }
        for message in &stored {
            view.mark_own(message);
            if let (StoreResponse::Answer, Some(number)) = (response, view.number(message.uid)) {
                let uid = if by_uid { format!("UID {} ", message.uid) } else { String::new() };
                write!(self.wire, "* {number} FETCH ({uid}FLAGS ({}))\r\n", view.flags(message))?;
            }
        }
        Ok(match stored.len() == named.len() || by_uid {
            true => Answer::ok("stored"),
            false => Answer::no("[EXPUNGEISSUED] some of them are gone"),
        })
    }

    fn copy(&mut self, set: &SequenceSet, by_uid: bool, target: &MailboxName<'_>, moving: bool) -> Answered {
        let account = self.account()?;
        let Some(view) = &mut self.view else { return Ok(Answer::bad("select a mailbox first")) };
        if moving && view.read_only {
            return Ok(Answer::no("[READ-ONLY] the mailbox was opened to look only"));
        }
        let Some(named) = view.resolve(set, by_uid) else { return Ok(Answer::bad("no such message")) };
        let target = match account.mailbox(&name_of(target)) {
            Ok(target) => target,
            Err(crate::sandbox::account::Refusal::Missing) => {
                return Ok(Answer::no("[TRYCREATE] no such mailbox"));
            }
            Err(refusal) => return Ok(refusal.into()),
        };
        let (uids, pieces) = pieces(&view.mailbox, &named);
        if uids.is_empty() {
            return Ok(Answer::ok("nothing to do"));
        }
        let copied = match target.add(&pieces) {
            Ok(copied) => copied,
            Err(why) => return Ok(Answer::No(disk_trouble(&why))),
        };
        let code = format!("[COPYUID {} {} {}]", target.uidvalidity(), set_of(&uids), set_of(&copied));
        if !moving {
            return Ok(Answer::Ok(format!("{code} copied")));
        }
        // RFC 6851 section 4.3: the code comes before the EXPUNGEs, so that the client can make sense of them.
        write!(self.wire, "* OK {code} moved\r\n")?;
        view.mailbox.expunge(&uids.into_iter().collect())?;
        view.update(true, self.wire)?;
        Ok(Answer::ok("moved"))
    }

    fn expunge(&mut self, only: Option<&SequenceSet>) -> Answered {
        let Some(view) = &mut self.view else { return Ok(Answer::bad("select a mailbox first")) };
        if view.read_only {
            return Ok(Answer::no("[READ-ONLY] the mailbox was opened to look only"));
        }
        let mut gone = deleted(view);
        if let Some(set) = only {
            let last = view.all().last().map_or(0, |named| named.uid);
            let ranges = ranges(set, last);
            gone.retain(|uid| ranges.iter().any(|(low, high)| (*low..=*high).contains(uid)));
        }
        view.mailbox.expunge(&gone)?;
        view.update(true, self.wire)?;
        Ok(Answer::ok("expunged"))
    }
}

/// What is marked \Deleted, among the messages that this session knows.
fn deleted(view: &View) -> HashSet<u32> {
    view.mailbox.look(|_, messages| {
        let marked = messages.iter().filter(|m| m.flags.has(Flags::DELETED) && view.number(m.uid).is_some());
        marked.map(|m| m.uid).collect()
    })
}

fn pieces(mailbox: &Arc<Mailbox>, named: &[Named]) -> (Vec<u32>, Vec<NewMessage>) {
    let there = named.iter().filter_map(|named| mailbox.message(named.uid));
    there.map(|message| (message.uid, mailbox.as_new(&message))).unzip()
}

/// System flags and keywords; `\Recent` and flags that nobody knows are passed over.
fn sort_flags(flags: &[Flag<'_>]) -> (Flags, Vec<String>) {
    let mut system = Flags::default();
    let mut keywords: Vec<String> = Vec::new();
    for flag in flags {
        let name = flag.to_string();
        match (Flags::named(&name), flag) {
            (Some(known), _) => system = system.with(known),
            (None, Flag::Keyword(_)) if !has_word(&keywords, &name) => keywords.push(name),
            _ => {}
        }
    }
    (system, keywords)
}

fn has_word(words: &[String], word: &str) -> bool {
    words.iter().any(|other| other.eq_ignore_ascii_case(word))
}

fn has_word_in(words: &std::collections::BTreeSet<String>, word: &str) -> bool {
    words.iter().any(|other| other.eq_ignore_ascii_case(word))
}

fn at_seconds(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => UNIX_EPOCH,
    }
}
