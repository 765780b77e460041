//! mail-fetch: new messages of an IMAP mailbox into a Maildir. See `lib/job/fetch.rs`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mailloop::cli::{self, Login, Output, Place, Voice};
use mailloop::config::{Peer, Server};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::fetch::{self, Options};
use mailloop::job::settings::Settings;
use mailloop::report::{self, Records};

/// Fetch new messages over IMAP into a Maildir; print the path of each once it is durable
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Accounts of the configuration; with -a or --imap: mailboxes [default: as configured, else INBOX]
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
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    voice: Voice,
}

const EXAMPLES: &str = "\
Examples:
  mail-fetch school                          what is new in the account's mailboxes
  mail-fetch -a school INBOX Lists/rust      two of its mailboxes
  mail-fetch --imap imaps://imap.example.org --user me --password-file ~/.secret -C ~/Mail/x
  mail-fetch school | mail-dissect -C ~/in   PDFs out of what is new

INBOX is the Maildir itself, other mailboxes are Maildir++ folders in it. A message is fetched once; what was
fetched is remembered in the Maildir, in mailloop-cursor-… files. Nothing is changed on the server, and what you
delete in the Maildir is neither deleted there nor fetched again.

Status: 0 done (also when nothing is new), 69 no such mailbox, 74 disk trouble, 75 try again later,
76 wrong certificate or broken protocol, 77 login refused, 78 wrong configuration.";

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), run)
}

fn run(arguments: Arguments) -> Result<Status> {
    let jobs = jobs(&arguments)?;
    let mut records = Records::stdout(arguments.output.form());
    let mut status = Status::DONE;
    for job in jobs {
        match fetch::run(&job, &mut records) {
            Ok(done) => status.merge(done),
            Err(error) => {
                report::trouble(&error);
                status.add(error.kind());
            }
        }
        if mailloop::stop::requested() || records.gone() {
            break;
        }
    }
    records.flush()?;
    Ok(status)
}

/// One job for each account; the words are accounts unless -a or --imap names the source.
fn jobs(arguments: &Arguments) -> Result<Vec<Options>> {
    if let Some(server) = arguments.imap.as_ref().filter(|_| arguments.account.is_none()) {
        let peer = Peer::of_url(server, &arguments.login)?;
        let maildir = arguments
            .directory
            .clone()
            .ok_or_else(|| Error::plain(Kind::Usage, "where to? with --imap, -C MAILDIR is needed"))?;
        let account = format!("{}@{}", peer.user.as_deref().unwrap_or(""), peer.server.host);
        return Ok(vec![Options {
            account,
            peer,
            maildir,
            mailboxes: or_inbox(arguments.names.clone()),
            dry_run: arguments.dry_run,
        }]);
    }
    let settings = Settings::load(&arguments.place)?;
    let job = |name: &str, mailboxes: Option<Vec<String>>| of_account(arguments, &settings, name, mailboxes);
    match &arguments.account {
        Some(name) => Ok(vec![job(name, Some(arguments.names.clone()).filter(|names| !names.is_empty()))?]),
        None if arguments.names.is_empty() => {
            Err(Error::plain(Kind::Usage, "fetch what? name an account, or use --imap URL")
                .hint("see --help"))
        }
        None => arguments.names.iter().map(|name| job(name, None)).collect(),
    }
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
    Ok(Options { account: name.to_string(), peer, maildir, mailboxes, dry_run: arguments.dry_run })
}

fn or_inbox(names: Vec<String>) -> Vec<String> {
    if names.is_empty() { vec!["INBOX".into()] } else { names }
}
