//! `mail-loop demo`: the whole loop on an embedded server, in a temporary directory, with nothing installed.
//!
//! Each round sends a PDF that no round before had, waits until the server announces it (IDLE), fetches it, gets it
//! out of the message, compares the bytes with what was sent, and shows the command that would print it. The stages
//! are the jobs that the programs run, with a configuration as in a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::cli::Place;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::fetch::{self, Fetcher};
use crate::job::inject::{self, Text, What};
use crate::job::settings::Settings;
use crate::job::{act, dissect};
use crate::mail::pdf;
use crate::net::imap::News;
use crate::record;
use crate::report::{Form, Records};
use crate::sandbox::{self, User};
use crate::stop;
use crate::store::spool::Way;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many rounds; 0 goes on until stopped.
    pub rounds: u64,
    /// Leave the directory behind.
    pub keep: bool,
}

const ADDRESS: &str = "me@by.example";
/// The sandbox tells at once; this long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo; what happens is told on `out`, line by line.
pub fn run(options: Options, out: &mut Records<'_>) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("mailloop-demo-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()
        .map_err(|why| Error::creating(std::env::temp_dir().join("mailloop-demo-…"), why))?;
    let done = Demo::start(dir.path()).and_then(|demo| demo.rounds(options.rounds, out));
    if options.keep {
        out.text(format!("everything is kept in {}", dir.keep().display()))?;
    }
    // Being asked to end is the usual end of endless rounds, wherever it finds us.
    if !stop::requested() {
        done?;
    }
    out.text(
        "The same with your own mail: `mail-loop init` writes a configuration, `mail-loop once` runs it through, \
         `mail-loop run` goes on.",
    )?;
    out.flush()
}

/// A server, and a loop that is configured for it.
struct Demo {
    dir: PathBuf,
    server: sandbox::Sandbox,
    plan: Plan,
}

impl Demo {
    fn start(dir: &Path) -> Result<Demo> {
        // For this server and this directory only; it leaves neither.
        let password = "demo".to_string();
        let server = sandbox::start(sandbox::Options {
            dir: dir.join("server"),
            users: vec![User { address: ADDRESS.into(), password: password.clone() }],
            smtp: 0,
            smtps: 0,
            imap: 0,
            imaps: 0,
            max_size: 16 << 20,
        })?;
        let text = format!(
            r#"
[account.demo]
address = "{ADDRESS}"
smtp = "{}"
imap = "{}"
password = "{password}"
maildir = "Maildir"

[[rule]]
name = "print"
type = "application/pdf"
from = ["{ADDRESS}"]
run = ["lp", "-t", "{{name}}", "--", "{{path}}"]

[loop.demo]
account = "demo"
files = "files"
act = "print"
"#,
            server.smtp_url(),
            server.imap_url()
        );
        let mut config = Config::parse(&text, Path::new("the demo's configuration"), None)?;
        for account in config.account.values_mut() {
            account.maildir = Some(dir.join("Maildir"));
        }
        for each in config.loops.values_mut() {
            each.files = Some(dir.join("files"));
        }
        let settings = Settings { config, file: None, state: dir.join("state") };
        let plan = Plan::all(&settings, &[])?
            .pop()
            .ok_or_else(|| Error::plain(Kind::Internal, "the demo's configuration has no loop"))?;
        Ok(Demo { dir: dir.to_path_buf(), server, plan })
    }

    fn rounds(self, rounds: u64, out: &mut Records<'_>) -> Result<()> {
        out.text(format!("mail-sandbox  {} and {}", self.server.smtp_url(), self.server.imap_url()))?;
        let mut fetcher = Fetcher::connect(self.fetch()?)?;
        let mut round = 0;
        while (rounds == 0 || round < rounds) && !stop::requested() && !out.gone() {
            round += 1;
            self.round(round, &mut fetcher, out).map_err(|error| error.context(format!("round {round}")))?;
            out.flush()?;
        }
        fetcher.finish();
        self.server.stop();
        Ok(())
    }

    fn round(&self, round: u64, fetcher: &mut Fetcher<'_>, out: &mut Records<'_>) -> Result<()> {
        let name = format!("homework-{round}.pdf");
        let sent = pdf::page(&format!("Homework, round {round}"));
        let file = self.dir.join(&name);
        std::fs::write(&file, &sent).map_err(|why| Error::creating(&file, why))?;
        out.text(format!("round {round}"))?;

        // Nothing is open before the first pass; after it the mailbox is, and can be waited on.
        fetcher.pass(&mut nowhere())?;
        let (id, took, news) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send(round, &file));
            let news = fetcher.wait(PATIENCE);
            let sent =
                sending.join().unwrap_or_else(|_| Err(Error::plain(Kind::Internal, "sending panicked")));
            sent.and_then(|(id, took, at)| Ok((id, took, news.map(|news| (news, at.elapsed()))?)))
        })?;
        step(out, "mail-inject", &format!("sent {name} ({} bytes) to {ADDRESS} as {id}", sent.len()), took)?;
        if news.0 == News::None {
            return Err(Error::plain(Kind::Temporary, "the server announced nothing"));
        }
        step(out, "IDLE", "the server announced it", news.1)?;

        let begun = Instant::now();
        let message: record::Message =
            one("message", collect(|records| fetcher.pass(records).map(drop))?, record::Message::read)?;
        step(out, "mail-fetch", &format!("durable as {}", shown(&message.path)), begun.elapsed())?;

        let begun = Instant::now();
        let maildir = vec![self.fetch()?.maildir.clone()];
        let lines = collect(|records| {
            dissect::run(self.dissect()?, dissect::from_arguments(maildir), records).map(drop)
        })?;
        let got: record::File = one("file", lines, record::File::read)?;
        let path = got.path.get().unwrap_or(Path::new(""));
        if std::fs::read(path).map_err(|why| Error::reading(path, why))? != sent {
            return Err(Error::plain(Kind::Data, format!("{} is not what was sent", path.display())));
        }
        step(
            out,
            "mail-dissect",
            &format!("{}: identical to what was sent", path.display()),
            begun.elapsed(),
        )?;

        let begun = Instant::now();
        let mut printed = Vec::new();
        let outs = std::slice::from_ref(&self.dissect()?.out);
        act::pending(&self.plan.act, outs, &mut Records::new(&mut printed, Form::Lines))?;
        let command = String::from_utf8_lossy(&printed).trim_end().to_string();
        if command.is_empty() {
            return Err(Error::plain(Kind::Internal, "no command came out"));
        }
        step(out, "mail-act", &format!("would print it with: {command}"), begun.elapsed())
    }

    fn fetch(&self) -> Result<&fetch::Options> {
        self.plan.fetch().ok_or_else(|| Error::plain(Kind::Internal, "the demo's loop has no account"))
    }

    fn dissect(&self) -> Result<&dissect::Options> {
        let dissect = self.plan.dissect.as_ref();
        dissect.ok_or_else(|| Error::plain(Kind::Internal, "the demo's loop has no directory for files"))
    }

    /// Sends the file; its Message-ID, how long that took, and when the server had said yes.
    fn send(&self, round: u64, file: &Path) -> Result<(String, Duration, Instant)> {
        let text = Text {
            subject: Some(format!("Homework, round {round}")),
            body: Some("See the attached file.\n".into()),
            attach: vec![file.to_path_buf()],
            ..Text::default()
        };
        let options = inject::Options {
            place: Place::default(),
            way: Way { smtp: self.server.smtp_url().parse().ok(), ..Way::default() },
            from: Some(ADDRESS.into()),
            to: vec![ADDRESS.into()],
            what: What::Compose(text),
            dsn: Default::default(),
            queue: false,
        };
        let begun = Instant::now();
        let mut told = Vec::new();
        let mut records = Records::new(&mut told, Form::Lines);
        let status = inject::run(&options, &mut std::io::empty(), &mut records)?;
        drop(records);
        if status.code() != 0 {
            return Err(Error::plain(Kind::Internal, format!("sending ended with status {}", status.code())));
        }
        Ok((String::from_utf8_lossy(&told).trim_end().to_string(), begun.elapsed(), Instant::now()))
    }
}

fn step(out: &mut Records<'_>, who: &str, what: &str, took: Duration) -> Result<()> {
    out.text(format!("  {who:12} {what}  [{:.1} ms]", took.as_secs_f64() * 1000.0))?;
    out.flush()
}

fn shown(path: &record::RecordPath) -> String {
    path.get().map_or(String::new(), |path| path.display().to_string())
}

fn nowhere() -> Records<'static> {
    Records::new(std::io::sink(), Form::Nul)
}

/// The JSON lines that a stage tells.
fn collect(stage: impl FnOnce(&mut Records<'_>) -> Result<()>) -> Result<Vec<String>> {
    let mut told = Vec::new();
    stage(&mut Records::new(&mut told, Form::Json))?;
    Ok(String::from_utf8_lossy(&told).lines().map(String::from).collect())
}

/// The only record among the lines.
fn one<T>(what: &str, lines: Vec<String>, read: fn(&str) -> Result<T>) -> Result<T> {
    match lines.as_slice() {
        [line] => read(line),
        lines => {
            Err(Error::plain(Kind::Internal, format!("{} {what} records came, one was sent", lines.len())))
        }
    }
}
