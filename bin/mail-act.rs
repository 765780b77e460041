//! mail-act: arguments to options of `job::act`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mailloop::cli::{self, Output, Place, Voice};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::act::{self, Mode, Options, Orders, Start};
use mailloop::job::settings::Settings;
use mailloop::report::{Form, Records};

/// Print, or run once, a command for each file that came in the mail
///
/// Without --once or --run it only prints the commands, quoted so that sh reads back exactly their words; nothing
/// is run and nothing remembered.
#[derive(Parser)]
#[command(name = "mail-act", version, after_long_help = MORE, after_help = "--help shows examples, placeholders and exit statuses")]
struct Arguments {
    /// Files to act on; from stdin where there are none
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The command for each file; without it, the [[rule]]s of the configuration
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Act on what mail-dissect wrote to these directories and is not settled yet: FILE… are directories
    #[arg(long, requires = "files")]
    pending: bool,
    /// Run each command, once ever
    #[arg(long)]
    run: bool,
    /// Print each command once ever: it counts as emitted before it is printed
    #[arg(long, conflicts_with = "run")]
    once: bool,
    /// Act also on what was acted on before; with --pending only where that failed or nobody knows how it ended
    #[arg(long)]
    again: bool,
    /// Only say which rule matches each file, and why the others do not
    #[arg(long, conflicts_with = "again")]
    explain: bool,
    /// Only check the rules, and say each of them in a sentence
    #[arg(long, conflicts_with_all = ["files", "pending", "run", "once", "again", "explain", "dry_run", "command", "json", "null"])]
    check: bool,
    /// Only say who is proven to have sent these messages, and by what; - is stdin
    #[arg(long, value_name = "MESSAGE", num_args = 1.., conflicts_with_all = ["files", "pending", "run", "once", "again", "explain", "check", "dry_run", "command", "rule", "timeout", "null"])]
    auth: Vec<PathBuf>,
    /// Print what --run or --once would act on now; claim and run nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Use only this rule; may be given more than once
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    rule: Vec<String>,
    /// How long a command may run, where its rule does not say [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = cli::some_time)]
    timeout: Option<Duration>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    voice: Voice,
}

const MORE: &str = "\
Examples:
  mail-act ~/in/*.pdf -- lp -d office {}
      prints an lp command for each file; add --run to run them
  mail-fetch school | mail-dissect -C ~/in | mail-act -- lp -d office {}
      the same for each PDF that comes in now
  mail-act --pending ~/in --run
      runs the rules' commands for all that mail-dissect ever wrote to ~/in and that is not settled;
      run it again after any crash
  mail-act --pending ~/in --explain
      says of each file which rule matches, and why the others do not
  mail-act --auth ~/Mail/school/cur/*
      says of each message who is proven to have sent it, and by what

A rule in the configuration file; the first that matches decides (mail-act --check says each in a sentence):
  [[rule]]
  name = \"print\"
  type = \"application/pdf\"              # by content, read when it is decided
  from = [\"*@by.example\"]               # the only address in the message's From; * is anything
  run  = [\"lp\", \"-d\", \"office\", \"-t\", \"{name}\", \"--\", \"{path}\"]

What a rule can ask of a file; all of it must fit, and of a list one. What is not known does not fit:
  type, file (its name), larger_than, smaller_than (\"10M\"), from, to (To or Cc), subject,
  account, mailbox (by where the message lies), older_than, newer_than (\"2d\"; since the server received it),
  list_id (in List-Id; mail from lists is taken only by rules that ask for it, \"*\" is any list)
  not = { subject = \"*draft*\" }         # the same keys: what does not fit all of this
  authenticated = true                  # and the sender is proven: by a DKIM signature of From's domain, or by
                                        # the own server ([auth] trusted = [\"its authserv-id\"]); see mail-act(1)

What it does, exactly one of:
  run = [\"program\", \"argument\", …]    # no shell
  print = \"office\"                      # lp; with duplex = \"long-edge\" (\"short-edge\", \"none\"),
                                        # media = \"A4\", copies = 2, title = \"{name}\"
  move = \"~/Papers\"                     # or copy: durable, and never over another file
and how:
  continue = true                       # the rules after it are asked too
  once_per = \"message\"                  # or \"file\": the same bytes in two messages are acted on once
  max_per_hour = 30                     # more are held until there is room, or until `mail-loop retry`
  max_size = \"20M\"                      # larger files are held until `mail-loop retry`
  timeout = \"2m\"
  tries = 20                            # how often, while it ends with 75 or takes too long (print: whenever it fails)
  repeatable = true                     # do it once more where nobody knows whether it was done

No rule acts on our own mail come back (a Mailloop-… field), on what a machine sent (Auto-Submitted), on bounces
(an empty Return-Path) and on reports (multipart/report).

Placeholders, each inside one word of the command, which never becomes two:
  {} {path}   the file (put at the end where the command has no placeholder)
  {name}      its name       {from}  the sender     {subject} {date}  of the message
  {sha256}    of the file    {rule}  the rule's name
Values that are not known are empty. Control characters are taken out of all but the path. A word that begins
with - because of a value is refused unless the word -- stands before it. In a rule any other {word} is an error;
after -- on the command line it stays as it is. A script for `sh -c` can have no placeholder: write
  sh -c 'lp \"$1\"' sh {}

Commands run with stdin empty, in the current directory, and see PATH, HOME, USER, LANG, LC_*, TZ, TMPDIR, XDG_*,
CUPS_SERVER and MAILLOOP_PATH, _NAME, _FROM, _SUBJECT, _DATE, _SHA256, _TYPE, _RULE, _MESSAGE, _MESSAGE_ID,
_ACCOUNT, _MAILBOX; nothing else.

Once means: once for this rule, this file's bytes and this message. A command after -- is its own rule: the same
words are the same rule. What was claimed but never settled, because the process or the machine died, is unknown:
reported at each run and not repeated before you say --again. Where mail has an account with `start`, older mail is
skipped.

A command that ends with 75 or takes too long is tried again after 1, 2, 4, … minutes, at most an hour, by the first
run after that; after the last try it is dead: told once, with a notice in the Maildir `dead-letters` of the state
directory (`dead_letters = \"~/Mail/dead\"` before the first […] of the configuration names another), and shown by
`mail-loop history --is dead`. What commands print is kept (of each 64 KiB and its end, the last 1000):
`mail-loop history --output NUMBER`. At its time limit a command and all that it started get TERM, then KILL.

Exit status:
  0   done, or nothing to do        64  the command line was wrong
  65  a record or a value cannot be used    66  a file, or the program to run, is missing
  69  a command failed              74  reading or writing failed
  75  a command failed with 75 or took too long and is tried again, or files are held by max_per_hour
      or who sent a message cannot be told now
  76  nobody knows whether some command ran
  77  a sender is not proven (--auth)    78  the configuration is wrong";

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.voice.clone(), job)
}

fn job(arguments: Arguments) -> Result<Status> {
    if !arguments.auth.is_empty() {
        let settings = Settings::load(&arguments.place)?;
        let mut records = Records::stdout(arguments.output.form());
        return act::show_auth(&settings.config.auth, &arguments.auth, &mut records);
    }
    let options = options(&arguments)?;
    if arguments.check {
        return act::check(&options.orders, &mut Records::stdout(Form::Lines));
    }
    let mut records = Records::stdout(arguments.output.form());
    if arguments.pending {
        return act::pending(&options, &arguments.files, &mut records);
    }
    if !arguments.files.is_empty() {
        return act::run(&options, act::from_paths(arguments.files), &mut records);
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::plain(Kind::Usage, "no files to act on")
            .hint("name them, pipe their paths in, or see mail-act --help"));
    }
    act::run(&options, act::from_stdin(arguments.output.form())?, &mut records)
}

fn options(arguments: &Arguments) -> Result<Options> {
    let mode = match (arguments.run, arguments.once) {
        (true, _) => Mode::Run,
        (_, true) => Mode::Once,
        _ => Mode::Print,
    };
    // A command that is only shown needs no configuration, and works where there is a broken one.
    let alone = !arguments.command.is_empty() && mode == Mode::Print && !arguments.pending;
    let settings = if alone { Settings::default() } else { Settings::load(&arguments.place)? };
    let orders = match arguments.command.is_empty() {
        true => Orders::rules(&settings.config, &arguments.rule)?,
        false => Orders::command(&arguments.command)?,
    };
    Ok(Options {
        orders,
        mode,
        again: arguments.again,
        dry_run: arguments.dry_run,
        explain: arguments.explain,
        starts: Start::all(&settings.config),
        state: settings.state.clone(),
        limit: arguments.timeout.unwrap_or(act::LIMIT),
        wait: cli::TIMEOUT,
        dead_letters: settings.dead_letters(),
        memory: act::Memory::default(),
    })
}
