//! What all command lines share: options that mean the same everywhere, and how a program ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

use crate::error::{Kind, Result, Status};
use crate::report::{self, Form};
use crate::stop;

/// `-q`, `-v`.
#[derive(Args, Clone, Debug, Default)]
pub struct Voice {
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice: what goes over the wire, without secrets
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// `-0`, `--json`.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Paths in and out end in NUL instead of a newline
    #[arg(short = '0', long, conflicts_with = "json")]
    pub null: bool,
    /// Records in and out are JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl Output {
    /// The form of records asked for.
    pub fn form(&self) -> Form {
        match (self.json, self.null) {
            (true, _) => Form::Json,
            (_, true) => Form::Nul,
            _ => Form::Lines,
        }
    }
}

/// `-c`, `--state`.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Configuration [default: $MAILLOOP_CONFIG, else ~/.config/mailloop/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where queue, ledger and heartbeat lie [default: ~/.local/state/mailloop]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// How to log in where no account of the configuration says it, or in its stead.
#[derive(Args, Clone, Debug, Default)]
pub struct Login {
    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The password is the first line of this file (which nobody else may read)
    #[arg(long, value_name = "FILE", conflicts_with = "password_command")]
    pub password_file: Option<PathBuf>,
    /// The password is the first line that this command prints (split into words, no shell)
    #[arg(long, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Log in with the OAuth 2.0 token that this command prints (split into words, no shell)
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["password_file", "password_command"])]
    pub token_command: Option<String>,
    /// Log in this way only [default: the best that the server offers]
    #[arg(long, value_name = "HOW",
          value_parser = ["scram-sha-256", "scram-sha-1", "plain", "login", "oauthbearer", "xoauth2"])]
    pub auth: Option<String>,
    /// How the connection is protected [default: from the URL]
    #[arg(long, value_name = "HOW", value_parser = ["implicit", "starttls", "none"])]
    pub tls: Option<String>,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Trust exactly the certificate with this SHA-256 fingerprint
    #[arg(long, value_name = "HEX")]
    pub tls_fingerprint: Option<String>,
    /// Limit for each single wait, not for the whole [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub timeout: Option<Duration>,
}

/// The limit for a single wait where nothing else is asked for.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What is longer is read as this, a thousand years: added to the present it is still a time that every clock can tell.
const LONGEST: Duration = Duration::from_secs(365_250 * 24 * 3600);

/// A time such as `30s`, `5m`, `1h30m`, `2 days`; what is longer than a thousand years is read as that.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .trim()
        .parse()
        .or_else(|_| days(text).ok_or(()))
        .map_err(|()| format!("{text:?} is no time; write 30s, 5m, 1h30m or 2d"))?;
    let time = Duration::try_from(span).map_err(|_| format!("{text:?} is negative"))?;
    Ok(time.min(LONGEST))
}

/// The same where no time at all makes no sense: a limit for a wait, a pause between two questions.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text:?} is no time at all; write 30s, 5m, 1h30m or 2d")),
        time => Ok(time),
    }
}

fn days(text: &str) -> Option<jiff::SignedDuration> {
    let number: i64 = text.trim().strip_suffix('d')?.trim().parse().ok()?;
    number.checked_mul(24).map(jiff::SignedDuration::from_hours)
}

/// A size such as `500`, `64K`, `10M`, `2G` (powers of 1024).
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write 500, 64K, 10M or 2G");
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, power) = match digits.chars().last() {
        Some('K') => (&digits[..digits.len() - 1], 1),
        Some('M') => (&digits[..digits.len() - 1], 2),
        Some('G') => (&digits[..digits.len() - 1], 3),
        Some('T') => (&digits[..digits.len() - 1], 4),
        _ => (digits, 0),
    };
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1024u64.pow(power)).ok_or_else(wrong)
}

/// Parses the command line, does the job and tells the caller of the program how it went.
///
/// A wrong command line is 64, a panic 70; being asked to end, or a reader that has gone, ends us by that signal
/// once the job has finished what was in hand.
pub fn program<A: Parser>(
    voice: impl FnOnce(&A) -> Voice,
    job: impl FnOnce(A) -> Result<Status>,
) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(wrong) => {
            let _ = wrong.print();
            return ExitCode::from(if wrong.use_stderr() { Kind::Usage.status() } else { 0 });
        }
    };
    let Voice { quiet, verbose } = voice(&arguments);
    report::set_voice(if quiet { -1 } else { verbose.min(2) as i8 });
    end(|| job(arguments))
}

/// The same for a program that reads its command line itself.
pub fn end(job: impl FnOnce() -> Result<Status>) -> ExitCode {
    if let Err(why) = stop::install() {
        report::trouble(format_args!("cannot listen for signals: {why}"));
        return ExitCode::from(Kind::Internal.status());
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    let status = match done {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            report::trouble(&error);
            error.kind().into()
        }
        Err(_) => {
            report::trouble("this is a fault of ours; please report what stands above");
            Kind::Internal.into()
        }
    };
    stop::die_if_requested();
    if report::reader_gone() {
        stop::die_of_pipe();
    }
    ExitCode::from(status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(size("10M"), Ok(10 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert!(size("ten").is_err() && size("99999999T").is_err() && size("").is_err());
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert!(duration("0s").is_ok() && some_time("0s").is_err() && some_time("1ms").is_ok());
        assert_eq!(duration("200000d"), Ok(Duration::from_secs(200_000 * 86_400)));
        let longest = some_time("9223372036854775807s").unwrap();
        assert!(std::time::Instant::now().checked_add(longest * 4).is_some());
        assert!(duration("soon").is_err() && duration("-5s").is_err());
    }
}
