//! mail-fetch: what is new in a mailbox comes into a Maildir, durable before it is told.
//!
//! The way of a message: listed by UID → its octets stream into `tmp/` → the group's files are synced → their names
//! are journalled in the cursor → renamed into `new/` → the directory is synced → the cursor takes the UIDs → the
//! paths are printed. A process that dies anywhere on that way leaves what the next run finishes or fetches again.
//! While one group is made durable the next one comes over the line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, Once};
use std::time::Duration;

use crate::config::Peer;
use crate::error::{Error, Kind, Result, Status};
use crate::net::imap::{Imap, News, Opened};
use crate::report::{self, Records};
use crate::retry;
use crate::secret;
use crate::stop;

mod after;
mod claim;
mod crew;
mod descriptors;
mod download;
mod foretell;
mod group;
mod keep;
mod known;
mod mailbox;
mod pick;
mod progress;
mod spool;

pub use after::After;
pub use crew::run_all;
use keep::shortened;
pub use keep::{Keep, keep};
pub use pick::Pick;

use descriptors::Counted;
use group::{Out, nobody_reads};
use pick::Target;

/// What to fetch, from where, to where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account's name; part of every message's identity here.
    pub account: String,
    /// How to reach the server.
    pub peer: Peer,
    /// Where messages go; INBOX is this Maildir itself, other mailboxes are Maildir++ folders in it.
    pub maildir: PathBuf,
    /// Names or patterns of mailboxes, in UTF-8; `!` in front excludes.
    pub mailboxes: Vec<String>,
    /// Which of their messages.
    pub pick: Pick,
    /// What is done on the server with what is durable here.
    pub after: After,
    /// Also if that takes away many at once.
    pub yes: bool,
    /// Only say what would be fetched.
    pub dry_run: bool,
}

impl Options {
    /// Everything in these mailboxes; the server keeps it as it is.
    pub fn new(account: &str, peer: Peer, maildir: PathBuf, mailboxes: Vec<String>) -> Options {
        Options {
            account: account.to_string(),
            peer,
            maildir,
            mailboxes,
            pick: Pick::default(),
            after: After::Keep,
            yes: false,
            dry_run: false,
        }
    }
}

impl Options {
    /// What cannot be meant.
    fn check(&self) -> Result<()> {
        match self.mailboxes.iter().find(|word| self.after.moves_to(word)) {
            Some(word) => Err(Error::new(
                Kind::Usage,
                format!("cannot fetch {}", self.of(word)),
                "--after moves what was fetched to this very mailbox, again and again",
            )
            .hint("leave it out, or move to another one")),
            None => Ok(()),
        }
    }
}

/// Each account once; one that is named again is told.
pub fn once_each(all: Vec<Options>) -> Vec<Options> {
    let mut once: Vec<Options> = Vec::new();
    for one in all {
        let same = |have: &Options| have.account == one.account && have.maildir == one.maildir;
        match once.iter().any(same) {
            true => report::say(format_args!("account {} is named twice; once is enough", one.account)),
            false => once.push(one),
        }
    }
    once
}

/// Fetches all mailboxes once, one after the other. Trouble with one mailbox is told and the others go on.
pub fn run(options: &Options, records: &mut Records) -> Result<Status> {
    let mut fetcher = Fetcher::connect(options)?;
    fetcher.lasting = false;
    let status = fetcher.pass(records)?;
    fetcher.finish();
    Ok(status)
}

/// So long after it could not be looked at a mailbox is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(120);

/// News that bring nothing so often in a row are listened to after a pause.
const FEW_VAIN: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A connection that fetches again and again.
pub struct Fetcher<'a> {
    options: &'a Options,
    imap: Imap,
    /// The mailbox that is open on the server, how it stood then, and whether it can be changed.
    open: Option<(String, Opened, bool)>,
    /// Somebody may want to wait on the first mailbox afterwards.
    lasting: bool,
    /// The one mailbox that this connection is for; its name is a name, whatever it looks like as a word.
    only: Option<Target>,
    /// The mailboxes that there were at the last pass.
    found: Vec<Target>,
    /// The first mailbox was looked at: what comes now, the server announces.
    looked: bool,
    /// The last pass took something; how many in a row did not although there were news.
    came: bool,
    vain: u32,
    /// Mailboxes that there are not, and what was last told of others: nothing is told in every pass.
    missing: BTreeSet<String>,
    told: BTreeMap<String, String>,
    /// It was opened without a look at what is there: the server will not announce what came before that.
    unlooked: bool,
    /// So often the mailbox is asked for where the server knows no IDLE; as often as somebody waits, unless shorter.
    poll: Duration,
    _counted: Counted,
}

impl<'a> Fetcher<'a> {
    /// Connects and logs in; nothing is fetched yet.
    pub fn connect(options: &'a Options) -> Result<Fetcher<'a>> {
        options.check()?;
        Ok(Fetcher {
            options,
            imap: Imap::connect(&options.peer, &secret::fetch)?,
            open: None,
            lasting: true,
            only: None,
            found: Vec::new(),
            looked: false,
            came: false,
            vain: 0,
            missing: BTreeSet::new(),
            told: BTreeMap::new(),
            unlooked: false,
            poll: Duration::MAX,
            _counted: Counted::new(),
        })
    }

    /// Fetches what is new in every mailbox. An error means that the connection is spent.
    pub fn pass(&mut self, records: &mut Records) -> Result<Status> {
        self.pass_to(&Mutex::new(records))
    }

    fn pass_to(&mut self, out: &Out<'_, '_>) -> Result<Status> {
        (self.looked, self.came) = (false, false);
        let done = self.pass_over_all(out);
        self.vain = if self.came { 0 } else { self.vain.saturating_add(1) };
        done
    }

    fn pass_over_all(&mut self, out: &Out<'_, '_>) -> Result<Status> {
        let (targets, mut status) = self.survey()?;
        self.found.clone_from(&targets);
        // The first mailbox comes last, so that it is the open one afterwards and can be waited on.
        for (at, target) in targets.iter().enumerate().rev() {
            match self.tolerant(target, at == 0 && self.lasting, out) {
                // A mailbox that breaks the line must not keep the others from coming.
                Err(error) if at > 0 && self.is_broken_by(&error, out) => {
                    report::trouble(&error);
                    status.add(error.kind());
                    self.connect_again()?;
                }
                done => status.merge(done?),
            }
            if stop::requested() || nobody_reads(out) {
                break;
            }
        }
        Ok(status)
    }

    /// The mailboxes that are to be looked at; those that there are not are told.
    fn survey(&mut self) -> Result<(Vec<Target>, Status)> {
        let mut status = Status::DONE;
        let (targets, missing) = self.targets()?;
        let before = std::mem::take(&mut self.missing);
        for error in missing {
            status.add(error.kind());
            let text = error.to_string();
            if !before.contains(&text) {
                report::trouble(error.context(&self.options.account));
            }
            self.missing.insert(text);
        }
        Ok((targets, status))
    }

    /// The mailboxes that are to be looked at, and errors for those that there are not. Where messages move to is none
    /// of them: they would be fetched and moved there again, each time.
    fn targets(&mut self) -> Result<(Vec<Target>, Vec<Error>)> {
        if let Some(only) = &self.only {
            return Ok((vec![only.clone()], Vec::new()));
        }
        let (mut targets, missing) = pick::mailboxes(&mut self.imap, &self.options.mailboxes)?;
        let all = targets.len();
        targets.retain(|target| !self.options.after.moves_to(&target.name));
        static SAID: Once = Once::new();
        if targets.len() < all {
            SAID.call_once(|| {
                let after = &self.options.after;
                report::say(format_args!(
                    "{}: not fetched from where --after {after} moves to",
                    self.options.account
                ));
            });
        }
        Ok((targets, missing))
    }

    /// As [`Fetcher::mailbox`]; trouble that concerns this mailbox alone is told and becomes the status.
    fn tolerant(&mut self, target: &Target, stay: bool, out: &Out<'_, '_>) -> Result<Status> {
        match self.mailbox(target, stay, out) {
            Err(error) if !self.imap.is_spent() && is_only_this_mailbox(error.kind()) => {
                let told = self.told.insert(target.name.clone(), error.to_string());
                if told != Some(error.to_string()) {
                    report::trouble(&error);
                }
                Ok(error.kind().into())
            }
            done => {
                self.told.remove(&target.name);
                done
            }
        }
    }

    /// True if the session is spent by what one mailbox brought on, as far as anybody can tell before connecting again.
    fn is_broken_by(&self, error: &Error, out: &Out<'_, '_>) -> bool {
        let once_more = matches!(error.kind(), Kind::Temporary | Kind::Protocol);
        self.imap.is_spent() && once_more && !stop::requested() && !nobody_reads(out)
    }

    fn connect_again(&mut self) -> Result<()> {
        self.open = None;
        self.imap.connect_again(&secret::fetch)
    }

    /// Waits for news in the first mailbox, or until it is to be tried again, at most this long; where the server knows no
    /// IDLE, or refuses it, it is asked for news after that.
    pub fn wait(&mut self, limit: Duration) -> Result<News> {
        if !self.looked {
            // Another mailbox may be open, or the news of this one be known and told at once.
            stop::doze(limit.min(self.poll).min(shortened(TRY_AGAIN)));
            self.imap.noop()?;
            return Ok(News::Some);
        }
        if std::mem::take(&mut self.unlooked) {
            return Ok(News::Some);
        }
        if self.vain > FEW_VAIN {
            // QUIRK: a server may announce again and again what nobody finds.
            let pause = retry::reconnect_pause(self.vain - FEW_VAIN).min(LONGEST_PAUSE);
            stop::doze(shortened(pause).min(limit).min(self.poll));
        }
        let news = self.wait_for_news(limit)?;
        if news == News::None {
            self.vain = 0;
        }
        Ok(news)
    }

    fn wait_for_news(&mut self, limit: Duration) -> Result<News> {
        if let Some(news) = self.imap.idle(limit)? {
            return Ok(news);
        }
        stop::doze(limit.min(self.poll));
        self.imap.noop()?;
        Ok(if self.imap.has_news() { News::Some } else { News::None })
    }

    /// Says goodbye.
    pub fn finish(self) {
        self.imap.logout();
    }

    fn wrong(&self, name: &str, kind: Kind, why: &str) -> Error {
        Error::new(kind, format!("cannot work on {}", self.options.of(name)), why)
    }
}

/// Trouble after which other mailboxes can be fetched, if the line is still good.
fn is_only_this_mailbox(kind: Kind) -> bool {
    !matches!(kind, Kind::Io | Kind::Config | Kind::Internal)
}
