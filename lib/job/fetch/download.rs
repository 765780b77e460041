//! The download of one mailbox: while one group comes over the line, the one before it is made durable.
//!
//! All that is wanted is asked for at once. Where the line breaks or the server talks nonsense we connect again and go
//! on with what is missing; a message that breaks it again is asked for alone, and if that fails too it is passed over.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::group::{Group, Out, Whole, nobody_reads};
use super::known::Known;
use super::pick::{Picked, too_large};
use super::progress::Progress;
use super::spool::{Spool, SpoolSink};
use super::{Fetcher, Options, shortened};
use crate::error::{Error, Kind, Result, Status};
use crate::mail::uids::Uids;
use crate::net::imap::LONGEST_SET;
use crate::report;
use crate::secret;
use crate::stop;
use crate::store::cursor::Skipped;

/// So many characters has a UID with what separates it from the next, at most.
const ONE_UID: usize = 11;
/// With the newest first, so many come in the server's order.
const NEWEST_TOGETHER: usize = 64;
/// So many broken lines without a message in between, and we give up on this mailbox for now.
const MOST_VAIN: usize = 20;
/// After so many we let it rest between two attempts.
const FEW_VAIN: usize = 3;

/// What came of a download.
pub(super) struct Loaded {
    /// What was there and did not come.
    pub skipped: Vec<Skipped>,
    /// What that means: 75 where a line broke over it or the server put it off, else 76.
    pub status: Status,
    /// What came and was larger than is wanted.
    pub large: Vec<Skipped>,
    /// What ended it early.
    pub trouble: Option<Error>,
}

/// Downloads what was picked of the open mailbox; those that came are durable and told on return.
pub(super) fn run(
    fetcher: &mut Fetcher<'_>,
    name: &str,
    group: &mut Group,
    known: &mut Known,
    picked: &Picked,
    out: &Out<'_, '_>,
) -> Result<Loaded> {
    let uidvalidity = group.cursor.uidvalidity().unwrap_or(0);
    let (maildir, source) = (group.maildir.clone(), group.source.clone());
    let options = fetcher.options;
    std::thread::scope(|scope| {
        // Without room in between: a group is handed over when the last one is durable, and grows until then.
        let (give, take) = sync_channel::<Vec<Whole>>(0);
        let storing = scope.spawn(move || -> Result<()> {
            while let Ok(whole) = take.recv() {
                group.commit(&whole, known, out)?;
                if nobody_reads(out) {
                    break;
                }
            }
            Ok(())
        });
        let progress = Progress::new(&options.account, name, picked.all().count());
        let spool = Rc::new(RefCell::new(Spool::new(
            &maildir,
            &source,
            uidvalidity,
            options.pick.max_size,
            give,
            progress,
        )));
        let mut load = Load { fetcher, name, uidvalidity, spool: spool.clone(), out, passed: Vec::new() };
        // What broke the line last time may do so again: the others come first.
        let loaded = load.all(&picked.wanted).and_then(|()| load.all(&picked.doubtful));
        let mut passed = load.passed;
        if loaded.is_err() {
            // Where no line held, the messages are not to blame.
            passed.retain(|(_, kind)| !kind.is_temporary());
        }
        let mut status = Status::DONE;
        passed.iter().for_each(|(_, kind)| status.add(*kind));
        let skipped = passed.into_iter().map(|(one, _)| one).collect();
        let large = spool.borrow().large().iter().map(|(uid, size)| too_large(*uid, *size)).collect();
        let here = spool.borrow_mut().finish();
        drop(spool);
        let stored = storing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stored?;
        Ok(Loaded { skipped, large, status, trouble: here.or(loaded.err()) })
    })
}

struct Load<'a, 'f, 'o, 'p, 'r> {
    fetcher: &'a mut Fetcher<'f>,
    name: &'a str,
    uidvalidity: u32,
    spool: Rc<RefCell<Spool>>,
    out: &'o Out<'p, 'r>,
    /// What was passed over, and of what kind the trouble with it was.
    passed: Vec<(Skipped, Kind)>,
}

impl Load<'_, '_, '_, '_, '_> {
    fn all(&mut self, wanted: &[u32]) -> Result<()> {
        let most = if self.fetcher.options.pick.newest_first { NEWEST_TOGETHER } else { usize::MAX };
        let (mut rest, mut width, mut vain) = (wanted.to_vec(), most, 0);
        while !rest.is_empty() && !self.is_over() {
            let asked = set_of(&rest, width);
            let number = asked.len() as usize;
            let before = self.spool.borrow().got().len();
            let done = self.ask(&asked);
            if self.is_over() {
                return done;
            }
            match done {
                Err(error) if self.fetcher.imap.is_spent() => {
                    let got = self.spool.borrow().got().clone();
                    vain = if got.len() == before { vain + 1 } else { 0 };
                    if vain > MOST_VAIN {
                        return Err(error);
                    }
                    if got.len() == before && number == 1 {
                        rest.remove(0);
                        self.pass_over(&asked, &error.to_string(), error.kind());
                    }
                    rest.retain(|uid| !got.contains(*uid));
                    // Where nothing came at all, the first one is the suspect.
                    width = if vain > 0 { 1 } else { width };
                    if vain > FEW_VAIN {
                        // It may not be this message: the server is not to be hammered.
                        stop::doze(shortened(Duration::from_secs(1)));
                    }
                    self.connect_again(&error)?;
                }
                // One of them cannot be had: which one shows when they are asked for one by one.
                Err(no) if number > 1 => {
                    report::detail(&no);
                    let spool = self.spool.borrow();
                    rest.retain(|uid| !spool.got().contains(*uid));
                    width = 1;
                }
                Err(no) => {
                    report::detail(&no);
                    vain += 1;
                    if no.kind().is_temporary() && vain > MOST_VAIN {
                        return Err(no);
                    }
                    self.complain(&asked, no.kind())?;
                    rest.remove(0);
                    width = 1;
                }
                Ok(()) => {
                    vain = 0;
                    self.complain(&asked, Kind::Protocol)?;
                    rest.drain(..number);
                    width = width.saturating_mul(2).min(most);
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, asked: &Uids) -> Result<()> {
        self.spool.borrow_mut().ask(asked);
        let done = self.fetcher.imap.download(asked, Box::new(SpoolSink(self.spool.clone())));
        self.spool.borrow_mut().drop_open();
        done
    }

    /// True if going on makes no sense.
    fn is_over(&self) -> bool {
        self.spool.borrow().is_over() || stop::requested() || nobody_reads(self.out)
    }

    fn connect_again(&mut self, error: &Error) -> Result<()> {
        report::say(format_args!("{error}; connecting again"));
        self.fetcher.imap.connect_again(&secret::fetch)?;
        let opened = self.fetcher.open_anew(self.name)?;
        self.fetcher.unlooked = true;
        if opened.uidvalidity != Some(self.uidvalidity) {
            let why = "its UIDVALIDITY changed while we fetched from it; run it again";
            return Err(self.fetcher.wrong(self.name, Kind::Temporary, why));
        }
        Ok(())
    }

    /// A message of no octets is believed where the server says the same of its size; else it is passed over.
    fn doubt_empty(&mut self, asked: &Uids) -> Result<()> {
        let empty = self.spool.borrow().empty(asked);
        if empty.is_empty() {
            return Ok(());
        }
        let described = self.fetcher.imap.describe(&empty)?;
        for uid in described.iter().filter(|one| one.size == Some(0)).map(|one| one.uid) {
            let failed = |why| Error::writing(&self.fetcher.options.maildir, why);
            self.spool.borrow_mut().believe_empty(uid).map_err(failed)?;
        }
        Ok(())
    }

    /// What was asked for and did not come, or came without a body (NIL): it was expunged meanwhile (Dovecot says
    /// NIL then), unless the server still lists it.
    fn complain(&mut self, asked: &Uids, kind: Kind) -> Result<()> {
        let kind = if kind.is_temporary() { kind } else { Kind::Protocol };
        self.doubt_empty(asked)?;
        let missing: Uids = {
            let spool = self.spool.borrow();
            asked.iter().filter(|uid| !spool.got().contains(*uid)).collect()
        };
        let mut withheld = Uids::default();
        for piece in missing.pieces(LONGEST_SET, u64::MAX) {
            let first = piece.iter().next().unwrap_or(1);
            let listed = self.fetcher.imap.search(first, Some(&format!("UID {piece}")))?;
            listed.into_iter().filter(|uid| piece.contains(*uid)).for_each(|uid| withheld.insert(uid));
        }
        let empty = self.spool.borrow().empty(&withheld);
        let (empty, withheld) = withheld.iter().partition::<Vec<u32>, _>(|uid| empty.contains(*uid));
        self.pass_over(&withheld.into_iter().collect(), "the server gave no body", kind);
        self.pass_over(&empty.into_iter().collect(), "the server gave an empty body", kind);
        Ok(())
    }

    fn pass_over(&mut self, uids: &Uids, reason: &str, kind: Kind) {
        let skipped = |uid| (Skipped { uid, size: None, reason: reason.to_string() }, kind);
        self.passed.extend(uids.iter().map(skipped));
    }
}

/// The first of these, at most `width`, and no more than fit on a line however they are written.
fn set_of(rest: &[u32], width: usize) -> Uids {
    let (mut length, mut run, mut before) = (0, 0, None);
    let fit = rest.iter().take_while(|uid| {
        // A range is told by its ends.
        let goes_on = before.replace(**uid).is_some_and(|before: u32| before.abs_diff(**uid) == 1);
        run = if goes_on { run + 1 } else { 1 };
        length += if run > 2 { 0 } else { ONE_UID };
        length <= LONGEST_SET
    });
    fit.take(width.max(1)).copied().collect()
}

impl Options {
    /// What it is called in a line about one of its mailboxes.
    pub(super) fn of(&self, mailbox: &str) -> String {
        format!("{}: mailbox {mailbox:?}", self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_fits_on_a_line() {
        let sparse: Vec<u32> = (0..20_000).map(|n| 1_000_000 + 2 * n).collect();
        let set = set_of(&sparse, usize::MAX);
        assert!(set.to_string().len() <= LONGEST_SET && set.len() > 300);
        assert_eq!(set_of(&(1..=50_000).collect::<Vec<_>>(), usize::MAX).to_string(), "1:50000");
        assert_eq!(set_of(&[9, 8, 7], 2).to_string(), "8:9");
    }
}
