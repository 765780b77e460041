//! mail-dissect: PDFs, or other files, out of messages.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mailloop::cli::{self, Output, TIMEOUT, Voice};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::dissect::{self, Options, Select};
use mailloop::report::Records;

const EXAMPLES: &str = "\
Examples:
  mail-dissect -C ~/in message.eml             PDFs of one message into ~/in
  mail-fetch school | mail-dissect -C ~/in     of each message that was fetched
  mail-dissect --pending ~/Mail/school -C ~/in of each message not finished yet, as cron wants it
  mail-dissect --all -C ~/in ~/Mail/school     every attachment of a whole Maildir
  mail-dissect --type 'image/*' -C pics - < m  pictures of the message on standard input

Each file that was written is a line on standard output, once it is safe on disk. No file is ever
overwritten: other bytes of the same name get a suffix (hw1-3fa2b1c9.pdf), the same bytes are left alone.
What a message gave is noted in DIR/.mailloop/journal.

Exit status: 0 done; 65 something selected is damaged and could not be saved; 66 a message is missing;
73 or 74 DIR cannot be written to; 75 another process is at work there.";

/// Take files out of mail: PDFs by their content, or any attachment, under safe names
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Messages, Maildirs (with all below), or - for a message on standard input [default: paths on standard input]
    #[arg(value_name = "MESSAGE|MAILDIR")]
    paths: Vec<PathBuf>,
    /// Where the files go; made if it is not there
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Take every attachment, not only PDFs
    #[arg(long, conflicts_with = "type")]
    all: bool,
    /// Take parts of these types, by content or as labelled; * and ? stand for anything
    #[arg(long = "type", value_name = "GLOB")]
    r#type: Vec<String>,
    /// Leave out messages that were finished before
    #[arg(long)]
    pending: bool,
    /// With --pending: take finished messages too
    #[arg(long, requires = "pending")]
    again: bool,
    /// Do not wait for the disk: faster, but a power cut can lose files; for scratch work
    #[arg(long)]
    no_sync: bool,
    /// How many messages to work on at once [default: as many as there are processors]
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    jobs: usize,
    /// How long to wait for another process at work in DIR [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    voice: Voice,
}

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), dissect)
}

fn dissect(arguments: Arguments) -> Result<Status> {
    let form = arguments.output.form();
    let options = Options {
        select: Select { all: arguments.all, types: arguments.r#type, ..Select::default() },
        pending: arguments.pending,
        again: arguments.again,
        sync: !arguments.no_sync,
        jobs: arguments.jobs,
        timeout: arguments.timeout.unwrap_or(TIMEOUT),
        ..Options::new(arguments.directory)
    };
    let mut records = Records::stdout(form);
    if !arguments.paths.is_empty() {
        return dissect::run(&options, dissect::from_arguments(arguments.paths), &mut records);
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::plain(Kind::Usage, "no messages were named")
            .hint("name files or Maildirs, or pipe paths in; see --help"));
    }
    dissect::run(&options, dissect::from_stdin(form)?, &mut records)
}
