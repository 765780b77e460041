//! As the machine's sendmail: a message on the input goes into the queue and is tried at once.
//!
//! Whoever calls sendmail (cron, git, a script) wants to be rid of the message: 0 means that the queue has it, whether
//! or not it could be sent already. 69 means that it was refused for good by then; then too it is kept, and told.

use std::io::{BufReader, Read};

use super::input::{DotEnded, stamp};
use super::parcel::{Envelope, Finished};
use super::{keep, submit};
use crate::cli::{self, Place};
use crate::error::{Error, Kind, Result, Status};
use crate::job::queue;
use crate::job::settings::Settings;
use crate::mail::address::{self, Address, Mailbox};
use crate::mail::dsn::Dsn;
use crate::report::{self, Form, Records};
use crate::store::spool::{Spool, Way};

/// What sendmail was asked for.
#[derive(Clone, Debug, Default)]
pub struct Sendmail {
    /// Where configuration and state lie.
    pub place: Place,
    /// `-f`: the envelope's sender; empty or `<>` for none.
    pub from: Option<String>,
    /// `-F`: the author's name where the message has no From.
    pub name: Option<String>,
    /// The recipients named as arguments.
    pub to: Vec<String>,
    /// `-t`: those in the header too.
    pub read_recipients: bool,
    /// Without `-i`: a dot alone on a line ends the message.
    pub dot_ends: bool,
    /// `-odq`: leave it in the queue.
    pub only_queue: bool,
    /// `-N`, `-R`.
    pub dsn: Dsn,
}

/// Takes the message; durable on return. 78 where no account of the configuration sends it.
pub fn sendmail(asked: &Sendmail, input: &mut dyn Read) -> Result<Status> {
    let settings = Settings::load(&asked.place)?;
    let message = match asked.dot_ends {
        true => Finished::stream(&mut DotEnded::new(BufReader::new(input)))?,
        false => Finished::stream(input)?,
    };
    let given = asked.from.as_deref().map(|text| text.trim_matches(['<', '>', ' ']));
    let whole = given.and_then(|text| Address::parse(text).ok());
    let (account, home) = account(&settings, whole.clone().or_else(|| message.author()).as_ref())?;
    let from = match given {
        // A login name: who runs this.
        Some(text) if !text.is_empty() => Some(Some(whole.unwrap_or_else(|| home.clone()))),
        Some(_) => Some(None),
        None => None,
    };
    let lists = asked.to.iter().map(|text| address::parse_list_at(text, &home));
    let to: Vec<Mailbox> = lists.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let to: Vec<Address> = to.into_iter().map(|mailbox| mailbox.address).collect();
    if to.is_empty() && !asked.read_recipients {
        return Err(Error::plain(Kind::Usage, "nobody would get this").hint("name recipients, or use -t"));
    }
    let usual = Mailbox { name: asked.name.clone(), address: home.clone() };
    let from_ref = from.as_ref().map(Option::as_ref);
    let envelope = Envelope {
        from: from_ref,
        to: &to,
        adds: asked.read_recipients,
        usual: Some(&usual),
        home: Some(&home),
    };
    let out = message.prepare(&envelope, &stamp())?;
    let way = Way { account: Some(account), ..Way::default() };
    let id = keep(&Spool::open(&settings.state()?)?, &way, asked.dsn, &out)?;
    if asked.only_queue {
        return Ok(Status::DONE);
    }
    let options =
        queue::Options { place: asked.place.clone(), limit: cli::TIMEOUT, jobs: 1, ..Default::default() };
    match queue::run_one(&options, &id, &mut Records::new(std::io::sink(), Form::Lines)) {
        Ok(status) if status.code() == Kind::Refused.status() => Ok(status),
        Ok(_) => Ok(Status::DONE),
        Err(error) => {
            // The queue has it; what hinders it is told, but is not the caller's affair.
            report::trouble(&error);
            Ok(Status::DONE)
        }
    }
}

/// The account that sends this author's mail, and its address.
fn account(settings: &Settings, author: Option<&Address>) -> Result<(String, Address)> {
    let name = submit::usual_account(settings, author).ok_or_else(|| {
        let from = author.map_or("this machine".to_string(), ToString::to_string);
        Error::plain(Kind::Config, format!("no account of the configuration sends mail from {from}"))
            .hint("mark one with default = true")
    })?;
    let address = settings
        .config
        .account(&name)?
        .address
        .as_deref()
        .ok_or_else(|| Error::plain(Kind::Config, format!("the account {name:?} has no address")))?;
    let address = Address::parse(address).map_err(|error| error.with_kind(Kind::Config))?;
    Ok((name, address))
}
