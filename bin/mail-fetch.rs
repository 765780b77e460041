//! mail-fetch: new messages of an IMAP mailbox into a Maildir. See `lib/job/fetch.rs`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mailloop::cli::{self, Login, Output, Place, Voice};
use mailloop::config::{Peer, Server};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::fetch::{self, After, Keep, Options, Pick};
use mailloop::job::settings::Settings;
use mailloop::report::Records;

/// Fetch new messages over IMAP into a Maildir; print the path of each once it is durable
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Accounts of the configuration; with -a or --imap: mailboxes, or patterns of them [default: as configured, else
    /// INBOX]
    #[arg(value_name = "ACCOUNT|MAILBOX")]
    names: Vec<String>,
    /// Fetch from this account; the other words are then mailboxes
    #[arg(short, long, value_name = "NAME")]
    account: Option<String>,
    /// Fetch from this server instead of an account's: imaps://host[:993] or imap://host[:143]
    #[arg(long, value_name = "URL")]
    imap: Option<Server>,
    /// The Maildir to deliver into [default: the account's]
    #[arg(short = 'C', long, value_name = "MAILDIR")]
    directory: Option<PathBuf>,
    /// Say what would be fetched; fetch nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Use up to so many connections at once
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Stay, and fetch mail when it comes; the server is asked at least this often
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2m",
          value_parser = cli::some_time, conflicts_with_all = ["dry_run", "jobs"])]
    idle: Option<Duration>,
    /// With --idle: ask so often for mailboxes that the server grants no connection of their own [default: as --idle]
    #[arg(long, value_name = "TIME", value_parser = cli::some_time, requires = "idle")]
    poll: Option<Duration>,
    /// Compress the line where the server knows how: for slow lines
    #[arg(long)]
    compress: bool,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    voice: Voice,
}

/// Which messages, and what becomes of them on the server.
#[derive(clap::Args)]
#[command(next_help_heading = "Which messages")]
struct Choice {
    /// Pass over larger messages; they come when the limit admits them
    #[arg(long, value_name = "SIZE", value_parser = cli::size)]
    max_size: Option<u64>,
    /// Only what was received since then: 2026-11-21, or 30d
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<jiff::civil::Date>,
    /// Only what fits these IMAP SEARCH keys: 'FROM "bob" UNSEEN'
    #[arg(long = "match", value_name = "KEYS")]
    matching: Option<String>,
    /// The newest first
    #[arg(long)]
    newest_first: bool,
    /// At most N messages of each mailbox
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Then on the server: keep, seen, flag:NAME, move:MAILBOX, delete, delete-after:DAYS
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    after: After,
    /// Let --after take away many messages at once
    #[arg(long)]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  mail-fetch school                          what is new in the account's mailboxes
  mail-fetch -a school INBOX 'Lists/*' '!Lists/spam'
  mail-fetch --imap imaps://imap.example.org --user me --password-file ~/.secret -C ~/Mail/x
  mail-fetch school --newest-first --limit 50 --max-size 10M
  mail-fetch school work -j 4                several at once
  mail-fetch school --after delete-after:30  thirty days later they are deleted on the server
  mail-fetch school --idle                   stays; prints paths as mail comes
  mail-fetch school | mail-dissect -C ~/in   PDFs out of what is new

INBOX is the Maildir itself, other mailboxes are Maildir++ folders in it. A message is fetched once; what was
fetched is remembered in the Maildir, in mailloop-cursor-… files. Without --after nothing is changed on the server,
and what you delete in the Maildir is neither deleted there nor fetched again.

Status: 0 done (also when nothing is new), 69 no such mailbox, 74 disk trouble, 75 try again later,
76 wrong certificate or broken protocol, 77 login refused, or --yes is needed, 78 wrong configuration.";

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), run)
}

fn run(arguments: Arguments) -> Result<Status> {
    let poll = poll(&arguments)?;
    let (jobs, settings) = jobs(&arguments)?;
    let mut records = Records::stdout(arguments.output.form());
    let status = match arguments.idle {
        None => fetch::run_all(&jobs, arguments.jobs.into(), &mut records),
        Some(every) => {
            let settings = settings.map_or_else(|| Settings::load(&arguments.place), Ok)?;
            fetch::keep(
                &jobs,
                &Keep { every, poll: poll.unwrap_or(every), state: settings.state()? },
                &mut records,
            )
        }
    };
    records.flush()?;
    Ok(status)
}

/// What `--poll` says; longer than `--idle` it would say nothing.
fn poll(arguments: &Arguments) -> Result<Option<Duration>> {
    match (arguments.idle, arguments.poll) {
        (Some(every), Some(poll)) if poll > every => {
            let text = jiff::SignedDuration::try_from(poll).map_or(String::new(), |poll| format!("{poll:#}"));
            let why = "every mailbox is asked for as often as --idle says anyway";
            Err(Error::new(Kind::Usage, format!("--poll {text} is longer than --idle"), why)
                .hint(format!("write --idle={text} too, or a shorter --poll")))
        }
        (_, poll) => Ok(poll),
    }
}

/// One job for each account; the words are accounts unless -a or --imap names the source.
fn jobs(arguments: &Arguments) -> Result<(Vec<Options>, Option<Settings>)> {
    if let Some(server) = arguments.imap.as_ref().filter(|_| arguments.account.is_none()) {
        let peer = Peer::of_url(server, &arguments.login)?;
        let maildir = arguments
            .directory
            .clone()
            .ok_or_else(|| Error::plain(Kind::Usage, "where to? with --imap, -C MAILDIR is needed"))?;
        let account = format!("{}@{}", peer.user.as_deref().unwrap_or(""), peer.server.host);
        let options = Options::new(&account, peer, maildir, or_inbox(arguments.names.clone()));
        return Ok((vec![chosen(arguments, options)], None));
    }
    let settings = Settings::load(&arguments.place)?;
    let job = |name: &str, mailboxes: Option<Vec<String>>| of_account(arguments, &settings, name, mailboxes);
    let jobs = match &arguments.account {
        Some(name) => vec![job(name, Some(arguments.names.clone()).filter(|names| !names.is_empty()))?],
        None if arguments.names.is_empty() => {
            return Err(Error::plain(Kind::Usage, "fetch what? name an account, or use --imap URL")
                .hint("see --help"));
        }
        None => {
            let jobs = arguments.names.iter().map(|name| job(name, None));
            fetch::once_each(jobs.collect::<Result<_>>()?)
        }
    };
    Ok((jobs, Some(settings)))
}

fn of_account(
    arguments: &Arguments,
    settings: &Settings,
    name: &str,
    mailboxes: Option<Vec<String>>,
) -> Result<Options> {
    let account = settings.config.account(name)?;
    let server = arguments.imap.as_ref().or(account.imap.as_ref());
    let peer = Peer::of_account(name, account, server, &arguments.login)?;
    let maildir = arguments.directory.clone().or_else(|| account.maildir.clone()).ok_or_else(|| {
        Error::plain(Kind::Config, format!("account {name:?} has no maildir"))
            .hint("add maildir = \"~/Mail/x\", or use -C")
    })?;
    let mailboxes = or_inbox(mailboxes.unwrap_or_else(|| account.mailboxes.clone()));
    Ok(chosen(arguments, Options::new(name, peer, maildir, mailboxes)))
}

fn chosen(arguments: &Arguments, mut options: Options) -> Options {
    let Choice { max_size, since, matching, newest_first, limit, after, yes } = &arguments.choice;
    let pick = Pick {
        max_size: *max_size,
        since: *since,
        matching: matching.clone(),
        newest_first: *newest_first,
        limit: *limit,
    };
    options.peer.compress |= arguments.compress;
    Options { pick, after: after.clone(), yes: *yes, dry_run: arguments.dry_run, ..options }
}

fn or_inbox(names: Vec<String>) -> Vec<String> {
    if names.is_empty() { vec!["INBOX".into()] } else { names }
}

/// A day, or so long ago.
fn day(text: &str) -> Result<jiff::civil::Date, String> {
    if let Ok(day) = text.parse() {
        return Ok(day);
    }
    let ago = cli::duration(text).map_err(|_| format!("{text:?} is no day; write 2026-11-21 or 30d"))?;
    let then = jiff::Zoned::now().checked_sub(ago).map_err(|_| format!("{text:?} is too long ago"))?;
    Ok(then.date())
}
