//! mail-queue: send what is in the queue, look at it, decide. See `lib/job/queue.rs`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mailloop::cli::{self, Output, Place, Voice};
use mailloop::error::{Result, Status};
use mailloop::job::queue::{self, Options};
use mailloop::report::Records;

/// Send what mail-inject --queue accepted, look at it, decide what becomes of it
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    shared: Shared,
}

#[derive(clap::Args)]
struct Shared {
    /// Configuration [default: $MAILLOOP_CONFIG, else ~/.config/mailloop/config.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<std::path::PathBuf>,
    /// Where the queue lies [default: ~/.local/state/mailloop]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<std::path::PathBuf>,
    /// Wait so long for a message that another process has in hand [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = cli::duration, global = true)]
    timeout: Option<Duration>,
    /// Records are JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Subcommand)]
enum Act {
    /// Send what is due; print the Message-ID of each message that somebody took
    Run {
        /// Go on: send what is accepted at once, and the rest when it is due
        #[arg(long)]
        watch: bool,
        /// So many connections at once, over all servers [default: 4]
        #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        jobs: usize,
        /// Also to recipients whose fate is unknown: they may get a second one
        #[arg(long, conflicts_with = "watch")]
        resend_unknown: bool,
    },
    /// One line for each message: id, state, recipients, the last reply
    List {
        /// Those that were refused or given up, instead of those that wait
        #[arg(long)]
        failed: bool,
        /// The servers that could not be reached and are left alone for a while, instead of messages
        #[arg(long, conflicts_with = "failed")]
        relays: bool,
    },
    /// All that is known of one message, and where it lies
    Show {
        /// As list shows it
        id: String,
    },
    /// Take messages out of the queue for good
    Drop {
        /// As list shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Keep messages back until they are released
    Hold {
        /// As list shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Let messages go at the next run: held, waiting or failed ones
    Release {
        /// Also to recipients who may have got it already
        #[arg(long)]
        resend_unknown: bool,
        /// As list shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

const EXAMPLES: &str = "\
Examples:
  mail-inject -a school --queue --to me@by.example -s later --body text
  mail-queue list                         what waits, and why
  mail-queue -q run                       send what is due, from cron
  mail-queue run --watch                  as a service: what comes at once, the rest when due
  mail-queue list --json | jq .recipients[].class
  mail-queue list --relays                servers that are left alone for a while, and why
  mail-queue run --resend-unknown         also what may have arrived: somebody may get two
  mail-queue release --resend-unknown ID  the same for one message, at the next run
  mail-queue list --failed                refused or given up; kept until dropped or released

The states: due (at the next run), later (not before the time shown), held, unknown (the line or the process died \
after the message was sent and before the answer; never sent again unasked). Temporary refusals and network trouble \
are tried again after 1, 2, 4, … minutes, at most 4 hours, for five days; a server that can't be reached is left alone \
for 1, 2, 4, 8, 15 minutes, and the account's fallback stands in. The account's rate, connections, warn and expire \
are heeded; who has a maildir finds a notice there when a message waits long or failed. Several runs at once are safe: \
a message in the hands of one is passed over by the others.

Status of run: 0 nothing is left to send, 75 something waits for a later run, 69 somebody was refused, \
76 somebody's fate is unknown; 77 login refused, 78 wrong configuration (the messages stay).";

fn main() -> ExitCode {
    cli::program(|arguments: &Arguments| arguments.shared.voice.clone(), run)
}

fn run(arguments: Arguments) -> Result<Status> {
    let shared = arguments.shared;
    let place = Place { config: shared.config, state: shared.state };
    let (jobs, resend_unknown) = match arguments.act {
        Act::Run { jobs, resend_unknown, .. } => (jobs, resend_unknown),
        _ => Default::default(),
    };
    let options = Options { place, limit: shared.timeout.unwrap_or(cli::TIMEOUT), jobs, resend_unknown };
    let form = Output { json: shared.json, null: false }.form();
    let mut records = Records::stdout(form);
    match arguments.act {
        Act::Run { watch: true, .. } => queue::watch(&options, &mut records),
        Act::Run { .. } => queue::run(&options, &mut records),
        Act::List { relays: true, .. } => queue::relays(&options, &mut records),
        Act::List { failed, .. } => queue::list(&options, failed, &mut records),
        Act::Show { id } => queue::show(&options, &id, &mut records),
        Act::Drop { ids } => queue::drop(&options, &ids),
        Act::Hold { ids } => queue::hold(&options, &ids),
        Act::Release { resend_unknown, ids } => queue::release(&options, &ids, resend_unknown),
    }
}
