//! mail-loop: fetch, dissect and act, again and again. See `lib/job/loop.rs`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mailloop::cli::{self, Place, Voice};
use mailloop::config::Server;
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::r#loop::history::{self, Filter, Word};
use mailloop::job::r#loop::{self, DemoOptions, Plan, init};
use mailloop::job::settings::{self, Settings};
use mailloop::report::{self, Form, Records};
use mailloop::store::ledger::State;

/// Fetch mail, take files out of it and act on them, again and again
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Configuration [default: $MAILLOOP_CONFIG, else ~/.config/mailloop/config.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where queue, ledger and heartbeat lie [default: ~/.local/state/mailloop]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    #[command(flatten)]
    voice: Voice,
}

const EXAMPLES: &str = "\
Examples:
  mail-loop demo                  the whole loop on an embedded server, in a temporary directory
  mail-loop init                  write a first configuration; it shows commands and runs none
  mail-loop once                  fetch, dissect and act once, for cron
  mail-loop run                   go on until stopped; at once when the server announces mail
  mail-loop status                does it live? 0 ok, 1 degraded, 2 down
  mail-loop history --last 20     what was done, and what is unknown
  mail-loop history --is unknown --is dead
                                  what waits for you; --output NUMBER shows what a command printed
  mail-loop settle done 17        you looked: claim 17 was done
  mail-loop retry --is dead       the printer is back: do all of them once more

A loop is a [loop.NAME] of the configuration. What one stage did not finish, its next run takes up: after a crash or
a power cut nothing is lost, and nothing is done twice unasked.

Status: 0 done, 64 usage, 69 refused, 73 or 74 disk trouble, 75 try again later, 76 broken protocol or something is
unknown, 77 login refused, 78 wrong configuration. `status` alone ends with 0, 1 or 2.";

#[derive(Subcommand)]
enum What {
    /// Show the whole loop on an embedded server; nothing needs to be installed
    Demo {
        /// How many rounds; 0 goes on until stopped
        #[arg(long, value_name = "N", default_value_t = 3)]
        rounds: u64,
        /// Leave the directory behind and say where it is
        #[arg(long)]
        keep: bool,
    },
    /// Write a first configuration; asks for what it cannot know
    Init(Init),
    /// Run loops once: fetch, dissect, act
    Once(Which),
    /// Run loops until stopped
    Run(Which),
    /// Say how each loop stands; ends with 0 (ok), 1 (degraded) or 2 (down)
    Status {
        /// Records are JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Say that you know of messages that a server has and does not give: status is not degraded by them any more
    Acknowledge {
        /// Names of loops [default: all]
        #[arg(value_name = "LOOP")]
        names: Vec<String>,
    },
    /// Show what was claimed and what became of it
    History {
        /// Records are JSON, one object a line
        #[arg(long)]
        json: bool,
        /// Show what the command of this claim printed
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["json", "numbers", "states", "rule", "path", "since", "last"])]
        output: Option<u64>,
        #[command(flatten)]
        meant: Meant,
    },
    /// Do claims once more, whatever became of them: at the next run that meets their files
    Retry(Meant),
    /// Give claims up: they are not done, and nothing more is said of them
    Forget(Meant),
    /// Say how claims ended, where you looked and know
    Settle {
        /// What became of them
        #[arg(value_name = "done|failed", value_parser = ["done", "failed"])]
        how: String,
        /// How you know
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        #[command(flatten)]
        meant: Meant,
    },
}

/// Which claims.
#[derive(Args)]
struct Meant {
    /// Numbers of claims, as history shows them
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// Those in this state: claimed, emitted, done, failed, later, unknown, dead, held, skipped, free
    #[arg(long = "is", value_name = "STATE", value_parser = history::state)]
    states: Vec<State>,
    /// Those of this rule; * stands for anything
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Those of files with this path; * stands for anything
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Those made since then: a time (RFC 3339), or how long ago (2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<jiff::Timestamp>,
    /// Only the last N of them
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

impl From<Meant> for Filter {
    fn from(meant: Meant) -> Filter {
        let Meant { numbers, states, rule, path, since, last } = meant;
        Filter { numbers, states, rule, path, since, last }
    }
}

fn since(text: &str) -> Result<jiff::Timestamp, String> {
    let ago = |ago| jiff::Timestamp::now().checked_sub(ago).ok();
    let at = text.parse().ok().or_else(|| cli::duration(text).ok().and_then(ago));
    at.ok_or_else(|| format!("{text:?} is no time; write 2026-11-21T00:00:00Z, 2h or 3d"))
}

/// Which loops, and how they tell.
#[derive(Args)]
struct Which {
    /// Names of loops [default: all]
    #[arg(value_name = "LOOP")]
    names: Vec<String>,
    /// Print action records as JSON instead of commands
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Init {
    /// What to call the account [default: from the address]
    #[arg(long)]
    name: Option<String>,
    /// Your mail address
    #[arg(long)]
    address: Option<String>,
    /// Servers of a provider [default: from the address]
    #[arg(long, value_parser = init::presets())]
    preset: Option<String>,
    /// Where mail is fetched
    #[arg(long, value_name = "URL")]
    imap: Option<Server>,
    /// Where mail is submitted
    #[arg(long, value_name = "URL")]
    smtp: Option<Server>,
    /// Login name [default: the address]
    #[arg(long)]
    user: Option<String>,
    /// Command that prints the password
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_file")]
    password_command: Option<String>,
    /// File that holds the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    // `status` has statuses of its own, which are no errors.
    let health = std::cell::Cell::new(None);
    let code =
        cli::program(|arguments: &Arguments| arguments.voice.clone(), |arguments| run(arguments, &health));
    match health.get() {
        Some(health) if code == ExitCode::SUCCESS => ExitCode::from(health),
        _ => code,
    }
}

fn run(arguments: Arguments, health: &std::cell::Cell<Option<u8>>) -> Result<Status> {
    let place = Place { config: arguments.config, state: arguments.state };
    match arguments.what {
        What::Demo { rounds, keep } => {
            let mut out = Records::stdout(Form::Lines);
            r#loop::demo(DemoOptions { rounds, keep }, &mut out)?;
        }
        What::Init(wanted) => write_first(wanted, &place)?,
        What::Once(which) => {
            let settings = Settings::load(&place)?;
            let plans = Plan::all(&settings, &which.names)?;
            return r#loop::once(&plans, &settings.state()?, &mut Records::stdout(form(which.json)));
        }
        What::Run(which) => {
            return r#loop::run(&place, &which.names, form(which.json));
        }
        What::Status { json } => {
            let worst = r#loop::status(&place, jiff::Timestamp::now(), &mut Records::stdout(form(json)))?;
            health.set(Some(worst.code()));
        }
        What::Acknowledge { names } => return r#loop::acknowledge(&Settings::load(&place)?, &names),
        What::History { json, output, meant } => {
            let settings = Settings::load(&place)?;
            let records = &mut Records::stdout(form(json));
            match output {
                Some(number) => history::output(&settings, number, records)?,
                None => history::show(&settings, &meant.into(), records)?,
            }
        }
        What::Retry(meant) => return tell(&place, meant, Word::Retry),
        What::Forget(meant) => return tell(&place, meant, Word::Forget),
        What::Settle { how, why, meant } => {
            let state = if how == "done" { State::Done } else { State::Failed };
            return tell(&place, meant, Word::Settle(state, why));
        }
    }
    Ok(Status::DONE)
}

fn tell(place: &Place, meant: Meant, word: Word) -> Result<Status> {
    let filter = Filter::from(meant);
    if filter.is_empty() {
        return Err(Error::plain(Kind::Usage, "which claims? name their numbers, or say --is STATE")
            .hint("`mail-loop history` shows all"));
    }
    history::tell(&Settings::load(place)?, &filter, &word)
}

fn form(json: bool) -> Form {
    if json { Form::Json } else { Form::Lines }
}

fn write_first(wanted: Init, place: &Place) -> Result<()> {
    let file = place.config.clone().or_else(settings::usual_file).ok_or_else(|| {
        Error::plain(Kind::Config, "cannot tell where the configuration goes: HOME is not set")
            .hint("use -c FILE")
    })?;
    let known = init::Known {
        name: wanted.name,
        address: wanted.address,
        preset: wanted.preset,
        imap: wanted.imap,
        smtp: wanted.smtp,
        user: wanted.user,
        password_command: wanted.password_command,
        password_file: wanted.password_file,
    };
    let prompts: &mut dyn io::Write =
        if io::stdin().is_terminal() { &mut io::stderr() } else { &mut io::sink() };
    let name = init::write(&known, &file, jiff::Timestamp::now(), &mut io::stdin().lock(), prompts)?;
    let mut out = Records::stdout(Form::Lines);
    out.path(&file)?;
    out.flush()?;
    let config = place.config.as_ref().map_or(String::new(), |file| format!(" -c {}", file.display()));
    report::say(format_args!(
        "now try it: mail-fetch{config} {name}, then mail-loop{config} once; nothing is run before act = \"run\""
    ));
    Ok(())
}
