//! mail-inject: send a message, or put it in the queue. See `lib/job/inject.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use mailloop::cli::{self, Login, Output, Place, Voice};
use mailloop::config::Server;
use mailloop::error::{Result, Status};
use mailloop::job::inject::{self, Options, Text, What};
use mailloop::mail::dsn::{Dsn, Notify, Ret};
use mailloop::report::Records;
use mailloop::store::spool::Way;

#[path = "mail-inject/sendmail.rs"]
mod sendmail;

/// Send a message with any number of attachments, or finished messages; print the Message-ID once handed over
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("finished").args(["read_recipients", "batch"]))]
struct Arguments {
    /// Send through this account of the configuration [default: the one that the sender's address means]
    #[arg(short, long, value_name = "NAME", conflicts_with = "smtp")]
    account: Option<String>,
    /// Send through this server: smtps://host[:465], smtp://host[:587], lmtp://host, lmtp:///socket, local:/maildir
    #[arg(long, value_name = "URL")]
    smtp: Option<Server>,
    /// The sender [default: the account's address]
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    from: Option<String>,
    /// A recipient, or a list with commas between; may be repeated
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    to: Vec<String>,
    /// A recipient named in Cc
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true, conflicts_with = "finished")]
    cc: Vec<String>,
    /// A recipient that the others do not see
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true, conflicts_with = "finished")]
    bcc: Vec<String>,
    /// The subject
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "finished")]
    subject: Option<String>,
    /// The text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["finished", "body_file"])]
    body: Option<String>,
    /// The text from a file; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "finished")]
    body_file: Option<PathBuf>,
    /// The same text as HTML, from a file; readers show this or the text
    #[arg(long, value_name = "FILE", conflicts_with = "finished")]
    html: Option<PathBuf>,
    /// Attach a file; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "finished")]
    attach: Vec<PathBuf>,
    /// Another header field; may be repeated
    #[arg(long, value_name = "'NAME: VALUE'", conflicts_with = "finished")]
    header: Vec<String>,
    /// A finished message on standard input; recipients from To, Cc and Bcc unless --to is given
    #[arg(short = 't', long)]
    read_recipients: bool,
    /// Finished messages, whose paths stand on standard input; with --json, message records
    #[arg(long)]
    batch: bool,
    /// Ask servers to report to the sender: success, failure, delay (with commas between), or never
    #[arg(long, value_name = "WHEN")]
    notify: Option<Notify>,
    /// How much of the message such a report shall hold: full or hdrs
    #[arg(long, value_name = "WHAT")]
    ret: Option<Ret>,
    /// Put it in the queue instead; mail-queue run sends it
    #[arg(long)]
    queue: bool,
    /// Print the exact bytes that would be sent; send nothing
    #[arg(short = 'n', long, conflicts_with_all = ["batch", "queue"])]
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
  mail-inject -a school --to me@by.example -s homework --attach hw1.pdf
  mail-inject --smtp smtps://smtp.by.example --user me --password-file ~/.secret \\
              --from me@by.example --to 'Ann <ann@x.example>, bob@x.example' -s Hi --body 'See you.'
  mail-inject -a school -t < message.eml          recipients from its header; Bcc is taken out
  find out -name '*.eml' | mail-inject -a school --batch
  mail-inject -a school --queue --to me@by.example -s later --body-file text; mail-queue run
  date | mail-inject -a school --to me@by.example -s now --body-file -
  ln -s $(command -v mail-inject) ~/bin/sendmail  so called, it is sendmail, for cron and git
  mail-inject -n --from a@x.example --to b@x.example -s try --attach hw1.pdf | less

Nothing is sent unless every attachment can be read. Each recipient has an outcome of its own (--json shows them); \
refused ones are a line on standard error. After the message is sent but not answered its fate is unknown: that is \
status 76, and it is never sent again by itself. A password never goes over a line without TLS, but to this machine.

Status: 0 done, 64 wrong command line, 65 damaged message, 66 a file is missing (nothing sent, but for the others \
of a batch), 69 refused, 75 try again later (nobody got it), 76 unknown fate, wrong certificate or broken protocol, \
77 login refused, 78 wrong configuration.";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().map(PathBuf::from);
    match program.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some(name) if sendmail::is_meant(name) => cli::end(|| sendmail::run(name, words)),
        _ => cli::program(|arguments: &Arguments| arguments.voice.clone(), run),
    }
}

fn run(arguments: Arguments) -> Result<Status> {
    let form = arguments.output.form();
    let dry_run = arguments.dry_run;
    let options = options(arguments);
    match dry_run {
        true => inject::show(&options, &mut io::stdin().lock(), &mut Records::stdout(form)),
        false => inject::run(&options, &mut io::stdin().lock(), &mut Records::stdout(form)),
    }
}

fn options(arguments: Arguments) -> Options {
    let what = if arguments.batch {
        What::Batch(arguments.output.form())
    } else if arguments.read_recipients {
        What::Finished
    } else {
        What::Compose(Text {
            cc: arguments.cc,
            bcc: arguments.bcc,
            subject: arguments.subject,
            body: arguments.body,
            body_file: arguments.body_file,
            html: arguments.html,
            attach: arguments.attach,
            headers: arguments.header,
        })
    };
    Options {
        place: arguments.place,
        way: Way { account: arguments.account, smtp: arguments.smtp, login: arguments.login },
        from: arguments.from,
        to: arguments.to,
        what,
        dsn: Dsn { notify: arguments.notify, ret: arguments.ret },
        queue: arguments.queue,
    }
}
