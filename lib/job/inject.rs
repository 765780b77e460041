//! mail-inject: compose a message or take finished ones, and hand them to SMTP or to the queue.
//!
//! Nothing is sent unless everything that belongs to the message could be read. Each recipient has an outcome of its
//! own; what is printed was handed over, or lies durably in the queue.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::cli::Place;
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::job::submit::progress::{Counted, Progress};
use crate::job::submit::{self, Courier, Failed, Parcel};
use crate::mail::address::{self, Address, Mailbox};
use crate::mail::compose::Draft;
use crate::mail::dsn::Dsn;
use crate::net::smtp::Answer;
use crate::record::{Outcome, Queued, Sent, Waiting};
use crate::report::{self, Form, Records};
use crate::stop;
use crate::store::spool::{Envelope, Spool, Way};

mod input;
mod parcel;
mod sendmail;
use input::{body, field, html, path_of, random, stamp};
pub use parcel::{Finished, Outbound};
pub use sendmail::{Sendmail, sendmail};

/// What is sent, and which way.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where configuration and state lie.
    pub place: Place,
    /// The way out; with neither account nor server, the account that the configuration means.
    pub way: Way,
    /// The author, and the envelope's sender; the account's address where it is left out.
    pub from: Option<String>,
    /// Who gets it, address lists; for finished messages in place of what their header says.
    pub to: Vec<String>,
    /// What is sent.
    pub what: What,
    /// What the server shall report.
    pub dsn: Dsn,
    /// Into the queue instead of out.
    pub queue: bool,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum What {
    /// A message that is composed here.
    Compose(Text),
    /// A finished message from the input; recipients from its header.
    Finished,
    /// Finished messages, whose paths (or with JSON: message records) come from the input.
    Batch(Form),
}

impl Default for What {
    fn default() -> Self {
        What::Compose(Text::default())
    }
}

/// What a composed message holds.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// Address lists shown in Cc.
    pub cc: Vec<String>,
    /// Address lists shown nowhere.
    pub bcc: Vec<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// A file with the text; `-` is the input.
    pub body_file: Option<PathBuf>,
    /// A file with the same text as HTML.
    pub html: Option<PathBuf>,
    /// Files to attach.
    pub attach: Vec<PathBuf>,
    /// Further header fields, `Name: value`.
    pub headers: Vec<String>,
}

impl Text {
    /// True if nothing was said of what it is to hold, a subject aside.
    fn is_empty(&self) -> bool {
        self.body.is_none() && self.body_file.is_none() && self.html.is_none() && self.attach.is_empty()
    }
}

/// Does it all: a record for each message that was handed over (plain: its Message-ID), a line on stderr for each
/// recipient who did not get it. `input` is what stdin is for the program.
pub fn run(options: &Options, input: &mut dyn Read, records: &mut Records<'_>) -> Result<Status> {
    let mut job = Job::new(options, true)?;
    let mut status = Status::DONE;
    let done = match &options.what {
        What::Compose(text) => job.compose(text, input).and_then(|out| job.give(&out, records, &mut status)),
        What::Finished => job.finished(input).and_then(|out| job.give(&out, records, &mut status)),
        What::Batch(form) => job.batch(*form, input, records, &mut status),
    };
    job.couriers.into_values().for_each(Courier::close);
    records.flush()?;
    done.map(|()| status)
}

/// Writes the exact bytes that would be sent, all of them or none, and sends nothing.
pub fn show(options: &Options, input: &mut dyn Read, out: &mut Records<'_>) -> Result<Status> {
    let job = Job::new(options, false)?;
    let Ready { message, .. } = match &options.what {
        What::Compose(text) => job.compose(text, input)?,
        What::Finished => job.finished(input)?,
        What::Batch(_) => return Err(Error::plain(Kind::Usage, "a batch cannot be shown, only one message")),
    };
    let mut whole = tempfile::tempfile()
        .map_err(|why| Error::creating(std::env::temp_dir(), why).context("a temporary file"))?;
    // Reading first, so that a file which cannot be read to its end leaves no half message on stdout.
    io::copy(&mut message.open(), &mut whole).map_err(|why| Error::reading("the message", why))?;
    let reading = |why| Error::reading("the temporary file", why);
    whole.rewind().map_err(reading)?;
    let mut chunk = vec![0; 64 * 1024];
    while !out.gone() {
        match whole.read(&mut chunk).map_err(reading)? {
            0 => break,
            n => out.bytes(&chunk[..n])?,
        }
    }
    out.flush()?;
    Ok(Status::DONE)
}

/// A message and the way it goes.
struct Ready {
    message: Outbound,
    way: Way,
}

struct Job<'a> {
    options: &'a Options,
    settings: Settings,
    /// Where it goes if it goes into the queue.
    spool: Option<Spool>,
    /// Connections, by way.
    couriers: BTreeMap<String, Courier>,
    /// From --from, as it shall be shown.
    author: Option<Mailbox>,
    /// Of --to.
    to: Vec<Mailbox>,
}

impl<'a> Job<'a> {
    fn new(options: &'a Options, goes_out: bool) -> Result<Job<'a>> {
        let settings = Settings::load(&options.place)?;
        let author = options.from.as_deref().map(address::parse_one).transpose()?;
        let to = lists(&options.to)?;
        let spool = (goes_out && options.queue).then(|| Spool::open(&settings.state()?)).transpose()?;
        let job = Job { options, settings, spool, couriers: BTreeMap::new(), author, to };
        if goes_out && (job.is_given() || matches!(options.what, What::Compose(_))) {
            // Also for the queue: a way that leads nowhere is told before anything else is done.
            submit::hops(&job.settings, &job.way(job.author.as_ref().map(|author| &author.address))?)?;
        }
        Ok(job)
    }

    fn is_given(&self) -> bool {
        self.options.way.smtp.is_some() || self.options.way.account.is_some()
    }

    /// The way as asked for, else the account that the author's address means.
    fn way(&self, author: Option<&Address>) -> Result<Way> {
        let mut way = self.options.way.clone();
        if !self.is_given() {
            way.account = submit::usual_account(&self.settings, author);
        }
        if self.options.queue { lasting(way) } else { Ok(way) }
    }

    /// The account's address.
    fn usual(&self, way: &Way) -> Result<Option<Mailbox>> {
        let account = way.account.as_deref().and_then(|name| self.settings.config.account.get(name));
        let usual = account.and_then(|account| account.address.as_deref()).map(Address::parse).transpose();
        let usual = usual.map_err(|error| error.context("the account's address").with_kind(Kind::Config))?;
        Ok(usual.map(|address| Mailbox { name: None, address }))
    }

    fn compose(&self, text: &Text, input: &mut dyn Read) -> Result<Ready> {
        let way = self.way(self.author.as_ref().map(|author| &author.address))?;
        let from = self.author.clone().or(self.usual(&way)?).ok_or_else(|| {
            Error::plain(Kind::Usage, "it is not said who the mail is from").hint("use --from ADDRESS")
        })?;
        let (cc, bcc) = (lists(&text.cc)?, lists(&text.bcc)?);
        let everybody = self.to.iter().chain(&cc).chain(&bcc);
        let to: Vec<Address> = everybody.map(|mailbox| mailbox.address.clone()).collect();
        if to.is_empty() {
            return Err(Error::plain(Kind::Usage, "nobody would get this").hint("use --to ADDRESS"));
        }
        if text.is_empty() {
            report::say("the message has no text; --body-file - would read it from standard input");
        }
        let draft = Draft {
            from,
            to: self.to.clone(),
            cc,
            subject: text.subject.clone(),
            body: body(text, input)?,
            html: html(text, input)?,
            headers: text.headers.iter().map(|line| field(line)).collect::<Result<_>>()?,
            attachments: Vec::new(),
        };
        Ok(Ready { message: Outbound::compose(draft, &text.attach, to, &stamp())?, way })
    }

    fn finished(&self, input: &mut dyn Read) -> Result<Ready> {
        self.ready(Finished::stream(input)?)
    }

    fn ready(&self, finished: Finished) -> Result<Ready> {
        let given = self.author.as_ref().map(|author| &author.address);
        let way = self.way(given.cloned().or_else(|| finished.author()).as_ref())?;
        let usual = self.usual(&way)?;
        let to: Vec<Address> = self.to.iter().map(|mailbox| mailbox.address.clone()).collect();
        let envelope =
            parcel::Envelope { from: given.map(Some), to: &to, usual: usual.as_ref(), ..Default::default() };
        Ok(Ready { message: finished.prepare(&envelope, &stamp())?, way })
    }

    fn batch(
        &mut self,
        form: Form,
        input: &mut dyn Read,
        records: &mut Records<'_>,
        status: &mut Status,
    ) -> Result<()> {
        let mut input = BufReader::new(input);
        while !stop::requested() && !records.gone() {
            let end = if form == Form::Nul { 0 } else { b'\n' };
            let mut line = Vec::new();
            input.read_until(end, &mut line).map_err(|why| Error::reading("standard input", why))?;
            if line.is_empty() {
                break;
            }
            if line.last() == Some(&end) {
                line.pop();
            }
            if line.is_empty() {
                continue;
            }
            let ready =
                path_of(line, form).and_then(|path| Finished::file(&path)).and_then(|each| self.ready(each));
            match ready {
                Ok(ready) => self.give(&ready, records, status)?,
                Err(error) => {
                    report::trouble(&error);
                    status.add(error.kind());
                }
            }
        }
        Ok(())
    }

    /// Hands one message over. An error ends the run; what concerns this message alone is said and remembered.
    fn give(&mut self, ready: &Ready, records: &mut Records<'_>, status: &mut Status) -> Result<()> {
        let Ready { message: out, way } = ready;
        if let Some(note) = &out.note {
            report::detail(note);
        }
        match &self.spool {
            Some(spool) => {
                let id = keep(spool, way, self.options.dsn, out)?;
                tell_kept(id, out, records)?;
            }
            None => {
                let answers = self.send(out, way);
                match answers {
                    Ok(answers) => tell(&submit::sent(&out.message_id, &out.to, &answers), records, status)?,
                    Err(Failed::Message(error)) if matches!(self.options.what, What::Batch(_)) => {
                        report::trouble(&error);
                        status.add(error.kind());
                    }
                    Err(failed) => return Err(failed.error()),
                }
            }
        }
        records.flush()
    }

    fn send(&mut self, out: &Outbound, way: &Way) -> Result<Vec<Answer>, Failed> {
        let key = way.key();
        if !self.couriers.contains_key(&key) {
            let hops = submit::hops(&self.settings, way).map_err(Failed::Way)?;
            self.couriers.insert(key.clone(), Courier::new(hops, None));
        }
        let open = || {
            let progress = Progress::octets(out.measure.size);
            Ok(Box::new(Counted { inner: out.open(), progress }) as Box<dyn Read>)
        };
        let unique = format!("{}{:016x}", out.message_id, random());
        let (from, dsn, measure) = (out.from.as_ref(), self.options.dsn, out.measure);
        let parcel = Parcel { from, to: &out.to, measure, unique: &unique, dsn, open: &open };
        let courier = self.couriers.get_mut(&key).expect("it was just put there");
        courier.send(&parcel, &mut |_| Ok(()))
    }
}

fn tell(sent: &Sent, records: &mut Records<'_>, status: &mut Status) -> Result<()> {
    submit::complain(sent, "--queue would try again by itself");
    if let Some(kind) = verdict(sent) {
        status.add(kind);
    }
    if records.is_json() {
        return records.json(sent);
    }
    let got = sent.recipients.iter().any(|fate| fate.outcome == Outcome::Done);
    match &sent.message_id {
        Some(id) if got => records.text(report::printable(id).as_bytes()),
        _ => Ok(()),
    }
}

/// What the outcomes of one message mean for the status. Where somebody got it, it is never "try again": that would
/// give them a second one.
fn verdict(sent: &Sent) -> Option<Kind> {
    let any = |outcome| sent.recipients.iter().any(|fate| fate.outcome == outcome);
    match (any(Outcome::Unknown), any(Outcome::Later), any(Outcome::Never), any(Outcome::Done)) {
        (true, _, _, _) => Some(Kind::Unknown),
        (_, true, _, false) => Some(Kind::Temporary),
        (_, false, false, _) => None,
        _ => Some(Kind::Refused),
    }
}

/// Puts a message into the queue; durable on return. Gives its name there.
fn keep(spool: &Spool, way: &Way, dsn: Dsn, out: &Outbound) -> Result<String> {
    let now = Timestamp::now();
    let id = format!("{:014x}-{:08x}", now.as_microsecond(), random() as u32);
    let envelope = Envelope {
        from: out.from.clone(),
        message_id: out.message_id.clone(),
        accepted: now,
        size: out.measure.size,
        eight_bit: out.measure.eight_bit,
        dsn,
        way: way.clone(),
    };
    spool.accept(&id, &envelope, &out.to, &mut out.open())?;
    Ok(id)
}

fn tell_kept(id: String, out: &Outbound, records: &mut Records<'_>) -> Result<()> {
    if !records.is_json() {
        return records.text(report::printable(&out.message_id).as_bytes());
    }
    let due = |to: &Address| Waiting { to: to.to_string(), state: "due".into(), ..Waiting::default() };
    records.json(&Queued { id, recipients: out.to.iter().map(due).collect(), ..Queued::fresh() })
}

/// With absolute paths: the queue is run from elsewhere.
fn lasting(mut way: Way) -> Result<Way> {
    for path in [&mut way.login.password_file, &mut way.login.tls_ca].into_iter().flatten() {
        *path = std::path::absolute(&path).map_err(|why| Error::reading(&path, why))?;
    }
    Ok(way)
}

fn lists(texts: &[String]) -> Result<Vec<Mailbox>> {
    let lists: Vec<Vec<Mailbox>> =
        texts.iter().map(|text| address::parse_list(text)).collect::<Result<_>>()?;
    Ok(lists.into_iter().flatten().collect())
}
