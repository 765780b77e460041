//! mail-sandbox: the embedded SMTP and IMAP server, for demos, courses and tests.
#![allow(missing_docs)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mailloop::cli::{self, Voice};
use mailloop::error::{Result, Status};
use mailloop::sandbox::{self, Options, User};

/// SMTP and IMAP on loopback over a directory of Maildirs
///
/// Prints SMTP=, IMAP=, SMTPS=, IMAPS= and CA= once it listens, then serves until INT or TERM. With a command after
/// --, runs it with those variables set and ends with its status.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where the mail lies: a Maildir for each user, named as the address
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: PathBuf,
    /// Somebody with a mailbox, who logs in with the address or its local part
    #[arg(long = "user", value_name = "ADDRESS:PASSWORD", required = true)]
    users: Vec<User>,
    /// Port for SMTP with STARTTLS (0: any free one)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    smtp_port: u16,
    /// Port for SMTP under TLS
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    smtps_port: u16,
    /// Port for IMAP with STARTTLS
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    imap_port: u16,
    /// Port for IMAP under TLS
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    imaps_port: u16,
    /// Largest message taken, such as 10M
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = cli::size)]
    max_size: u64,
    #[command(flatten)]
    voice: Voice,
    /// A command to run against the server
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  mail-sandbox -C /tmp/box --user me@by.example:secret
      serve; in another terminal, with the port it printed:
      curl smtp://127.0.0.1:PORT --mail-from a@b.example --mail-rcpt me@by.example -T message.eml
      curl -u me:secret 'imap://127.0.0.1:PORT/INBOX;UID=1'
      ls /tmp/box/me@by.example/new

  mail-sandbox -C /tmp/box --user me@by.example:secret -- sh -c 'curl -s --cacert $CA -u me:secret $IMAPS/'
      run one command against it; $SMTP $SMTPS $IMAP $IMAPS hold the addresses, $CA the certificate to trust

  mail-sandbox -C /tmp/box --user ann@by.example:a --user bob@by.example:b --smtp-port 2525 --imap-port 1143
      two users, fixed ports

Mail for the users (also for user+tag@) is taken without login and is on disk before the 250; nothing is relayed.
A user on the command line can be seen by other users of this machine: give throw-away passwords only.";

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), run)
}

fn run(arguments: Arguments) -> Result<Status> {
    let server = sandbox::start(Options {
        dir: arguments.directory,
        users: arguments.users,
        smtp: arguments.smtp_port,
        smtps: arguments.smtps_port,
        imap: arguments.imap_port,
        imaps: arguments.imaps_port,
        max_size: arguments.max_size,
    })?;
    match arguments.command.split_first() {
        None => sandbox::serve(server),
        Some((program, rest)) => match sandbox::run(server, program, rest)? {
            0 => Ok(Status::DONE),
            // The command's own status, which may be none of ours.
            status => std::process::exit(i32::from(status)),
        },
    }
}
