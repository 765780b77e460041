//! mail-dissect: PDFs, or other files, out of messages.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};
use mailloop::cli::{self, Output, TIMEOUT, Voice};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::dissect::{self, By, Item, Options, Select, View};
use mailloop::mail::part::Limits;
use mailloop::report::{Form, Records};

const EXAMPLES: &str = "\
Examples:
  mail-dissect -C ~/in message.eml             PDFs of one message into ~/in
  mail-fetch school | mail-dissect -C ~/in     of each message that was fetched
  mail-dissect --pending ~/Mail/school -C ~/in of each message not finished yet, as cron wants it
  mail-dissect --all -C ~/in ~/Mail/school     every attachment of a whole Maildir
  mail-dissect --type 'image/*' -C pics - < m  pictures of the message on standard input
  mail-dissect --list message.eml              what is in it; nothing is written
  mail-dissect -O --part 2.1 message.eml | lpr one part on standard output

Each file that was written is a line on standard output, once it is safe on disk. No file is ever
overwritten: other bytes of the same name get a suffix (hw1-3fa2b1c9.pdf), the same bytes are left alone.
What a message gave is noted in DIR/.mailloop/journal. More in mail-dissect(1).

Exit status: 0 done; 65 something selected is damaged and could not be saved; 66 a message is missing;
73 or 74 DIR cannot be written to; 75 another process is at work there.";

/// Take files out of mail: PDFs by their content, or any attachment, under safe names
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Messages, mbox files, Maildirs (with all below), or - for standard input [default: paths on standard input]
    #[arg(value_name = "MESSAGE|MAILDIR")]
    paths: Vec<PathBuf>,
    /// Where the files go; made if it is not there
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    view: Looking,
    /// Lay files into subdirectories of DIR
    #[arg(long, value_name = "WHAT", value_parser = ["sender", "date", "message"])]
    by: Option<String>,
    /// Leave out messages that were finished before
    #[arg(long)]
    pending: bool,
    /// With --pending: take finished messages too
    #[arg(long, requires = "pending")]
    again: bool,
    /// Take every repair for damage (65); the file is kept
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    limits: Bounds,
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

/// Which parts; those that any of these wants.
#[derive(Args)]
#[command(next_help_heading = "Which parts (PDFs by their content, unless one of these is given)")]
struct Wanted {
    /// Every attachment
    #[arg(long)]
    all: bool,
    /// Parts of these types, by content or as labelled; * and ? stand for anything
    #[arg(long = "type", value_name = "GLOB", conflicts_with = "all")]
    r#type: Vec<String>,
    /// Parts whose name ends so
    #[arg(long, value_name = "EXT")]
    ext: Vec<String>,
    /// Parts whose name matches
    #[arg(long, value_name = "GLOB")]
    name: Vec<String>,
    /// What is shown within the message, as pictures are
    #[arg(long)]
    inline: bool,
    /// The texts of the message
    #[arg(long)]
    text: bool,
    /// The part with this number, as --list shows it, and no other
    #[arg(long, value_name = "NUMBER")]
    part: Vec<String>,
    /// Believe who calls something a PDF
    #[arg(long)]
    trust_label: bool,
}

/// Looking without writing.
#[derive(Args)]
struct Looking {
    /// Show the parts of each message, * for those that are wanted; write nothing
    #[arg(short, long, conflicts_with_all = ["stdout", "dry_run"])]
    list: bool,
    /// Print the one part that is wanted
    #[arg(short = 'O', long, conflicts_with_all = ["json", "null", "dry_run"])]
    stdout: bool,
    /// Say what would be written; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Where reading stops; what was found by then is saved, and it is said (65).
#[derive(Args)]
#[command(next_help_heading = "Limits for a message")]
struct Bounds {
    /// Leave containers closed: TNEF, signed S/MIME, uuencode in texts
    #[arg(long)]
    no_containers: bool,
    /// A longer file is not saved [default: none]
    #[arg(long, value_name = "SIZE", value_parser = cli::size)]
    max_size: Option<u64>,
    /// Parts within parts
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    max_depth: usize,
    /// Parts
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_parts: usize,
    /// Header of one part
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = cli::size)]
    max_header: u64,
}

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), dissect)
}

fn dissect(arguments: Arguments) -> Result<Status> {
    let form = arguments.output.form();
    let view = match &arguments.view {
        Looking { stdout: true, .. } => Some(None),
        Looking { list: true, .. } => Some(Some(View::Tree)),
        Looking { dry_run: true, .. } => Some(Some(View::DryRun)),
        _ => None,
    };
    let (options, paths) = meant(arguments);
    if !paths.is_empty() {
        return start(&options, view, form, dissect::from_arguments(paths));
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::plain(Kind::Usage, "no messages were named")
            .hint("name files or Maildirs, or pipe paths in; see --help"));
    }
    start(&options, view, form, dissect::from_stdin(form)?)
}

/// Writes files, or (`view`) prints a part or tells of parts.
fn start(
    options: &Options,
    view: Option<Option<View>>,
    form: Form,
    items: impl Iterator<Item = Result<Item>>,
) -> Result<Status> {
    let mut records = Records::stdout(form);
    match view {
        None => dissect::run(options, items, &mut records),
        Some(None) => dissect::print(options, items, &mut std::io::stdout().lock()),
        Some(Some(view)) => dissect::list(options, view, items, &mut records),
    }
}

fn meant(arguments: Arguments) -> (Options, Vec<PathBuf>) {
    let Arguments { wanted, limits, .. } = arguments;
    let options = Options {
        select: Select {
            all: wanted.all,
            types: wanted.r#type,
            extensions: wanted.ext,
            names: wanted.name,
            inline: wanted.inline,
            text: wanted.text,
            parts: wanted.part,
            trust_label: wanted.trust_label,
        },
        by: arguments.by.as_deref().map(|by| match by {
            "sender" => By::Sender,
            "date" => By::Date,
            _ => By::Message,
        }),
        pending: arguments.pending,
        again: arguments.again,
        sync: !arguments.no_sync,
        strict: arguments.strict,
        max_size: limits.max_size,
        jobs: arguments.jobs,
        timeout: arguments.timeout.unwrap_or(TIMEOUT),
        limits: Limits {
            depth: limits.max_depth,
            parts: limits.max_parts,
            head: usize::try_from(limits.max_header).unwrap_or(usize::MAX),
            containers: !limits.no_containers,
        },
        ..Options::new(arguments.directory)
    };
    (options, arguments.paths)
}
