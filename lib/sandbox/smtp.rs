//! The SMTP conversation (RFC 5321): takes mail for the users, durable before the 250, and relays nothing.

use std::io::{self, Write};
use std::sync::Arc;

use base64_simd::STANDARD as BASE64;
use smtp_proto::request::receiver::DataReceiver;
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, Error, MailFrom, Request};

use super::account::Account;
use super::listen::House;
use super::maildir::Incoming;
use super::wire::{Line, Wire};

/// Longest command line, in bytes (smtp-proto's own limit).
const LINE_LIMIT: usize = 4000;
/// RFC 5321 section 4.5.3.1.8 asks for 100 at least.
const MOST_RECIPIENTS: usize = 1000;
/// A client that only talks nonsense is sent away.
const MOST_ERRORS: u32 = 50;

/// Talks until the client leaves.
pub fn serve(house: &House, wire: &mut Wire) -> io::Result<()> {
    let mut session =
        Session { house, wire, hello: None, extended: false, login: None, mail: None, errors: 0 };
    session.reply("220 localhost ESMTP mail-sandbox")?;
    session.converse()
}

struct Session<'a> {
    house: &'a House,
    wire: &'a mut Wire,
    /// How the client introduced itself.
    hello: Option<String>,
    extended: bool,
    login: Option<Arc<Account>>,
    mail: Option<Mail>,
    errors: u32,
}

/// A transaction from MAIL on.
struct Mail {
    sender: String,
    recipients: Vec<(String, Arc<Account>)>,
    /// With BDAT, what came so far.
    chunks: Option<Body>,
}

/// The message being received. After a failure the rest is read and thrown away.
struct Body {
    file: Option<Incoming>,
    head: u64,
    failed: Option<String>,
}

#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

impl Session<'_> {
    fn converse(&mut self) -> io::Result<()> {
        loop {
            let line = match self.wire.line(LINE_LIMIT)? {
                Line::Whole(line) => line,
                Line::TooLong => {
                    self.wrong("500 5.5.2 line too long")?;
                    continue;
                }
                Line::End => return Ok(()),
            };
            if self.errors >= MOST_ERRORS {
                return self.reply("421 4.7.0 too many errors");
            }
            if self.command(line)? == Next::Quit {
                return Ok(());
            }
        }
    }

    fn command(&mut self, mut line: Vec<u8>) -> io::Result<Next> {
        line.extend_from_slice(b"\r\n");
        let request = match Request::parse(&mut line.iter()) {
            Ok(request) => request.into_owned(),
            Err(error) => {
                self.wrong(&complaint(&error))?;
                return Ok(Next::Go);
            }
        };
        match request {
            Request::Ehlo { host } => self.hello(host, true)?,
            Request::Helo { host } => self.hello(host, false)?,
            Request::Lhlo { .. } => self.wrong("500 5.5.1 this is SMTP, not LMTP: say EHLO")?,
            Request::Mail { from } => self.mail(from)?,
            Request::Rcpt { to } => self.recipient(&to.address)?,
            Request::Data => self.data()?,
            Request::Bdat { chunk_size, is_last } => self.chunk(chunk_size as u64, is_last)?,
            Request::Auth { mechanism, initial_response } => self.auth(mechanism, &initial_response)?,
            Request::StartTls => return self.start_tls(),
            Request::Rset => {
                self.mail = None;
                self.reply("250 2.0.0 forgotten")?;
            }
            Request::Noop { .. } => self.reply("250 2.0.0 ok")?,
            Request::Vrfy { .. } => self.reply("252 2.5.0 send some mail and see")?,
            Request::Help { .. } => {
                self.reply("214 2.0.0 EHLO MAIL RCPT DATA BDAT AUTH STARTTLS RSET NOOP VRFY QUIT")?;
            }
            Request::Quit => {
                self.reply("221 2.0.0 bye")?;
                return Ok(Next::Quit);
            }
            Request::Expn { .. } | Request::Etrn { .. } | Request::Atrn { .. } | Request::Burl { .. } => {
                self.wrong("502 5.5.1 not done here")?;
            }
        }
        Ok(Next::Go)
    }

    fn hello(&mut self, host: String, extended: bool) -> io::Result<()> {
        self.hello = Some(host);
        self.extended = extended;
        self.mail = None;
        if !extended {
            return self.reply("250 localhost");
        }
        let mut words = vec!["localhost".to_string(), format!("SIZE {}", self.house.max_size)];
        words.extend(
            [
                "PIPELINING",
                "8BITMIME",
                "SMTPUTF8",
                "CHUNKING",
                "ENHANCEDSTATUSCODES",
                "AUTH PLAIN LOGIN",
                "HELP",
            ]
            .map(String::from),
        );
        if !self.wire.is_tls() {
            words.push("STARTTLS".to_string());
        }
        let last = words.len() - 1;
        for (k, word) in words.iter().enumerate() {
            write!(self.wire, "250{}{word}\r\n", if k == last { ' ' } else { '-' })?;
        }
        Ok(())
    }

    fn start_tls(&mut self) -> io::Result<Next> {
        if self.wire.is_tls() {
            self.wrong("503 5.5.1 TLS is on already")?;
            return Ok(Next::Go);
        }
        self.reply("220 2.0.0 go ahead")?;
        self.wire.flush()?;
        self.wire.start_tls(&self.house.tls)?;
        // RFC 3207 section 4.2: all that was said before is forgotten.
        (self.hello, self.login, self.mail, self.extended) = (None, None, None, false);
        Ok(Next::Go)
    }

    fn auth(&mut self, mechanism: u64, initial: &str) -> io::Result<()> {
        if self.hello.is_none() || self.login.is_some() || self.mail.is_some() {
            return self.wrong("503 5.5.1 not now");
        }
        let given = (!initial.is_empty()).then(|| initial.to_string());
        let pair = match mechanism {
            AUTH_PLAIN => self.answer("334 ", given)?.and_then(|answer| {
                let mut parts =
                    answer.split(|b| *b == 0).skip(1).map(|part| String::from_utf8(part.to_vec()));
                Some((parts.next()?.ok()?, parts.next()?.ok()?))
            }),
            AUTH_LOGIN => match self.answer("334 VXNlcm5hbWU6", given)? {
                Some(name) => self
                    .answer("334 UGFzc3dvcmQ6", None)?
                    .and_then(|word| Some((String::from_utf8(name).ok()?, String::from_utf8(word).ok()?))),
                None => None,
            },
            _ => return self.wrong("504 5.5.4 only PLAIN and LOGIN"),
        };
        let Some((name, password)) = pair else {
            return self.wrong("501 5.5.2 cannot understand that");
        };
        self.login = self.house.accounts.login(&name, &password);
        match self.login {
            Some(_) => self.reply("235 2.7.0 welcome"),
            None => self.wrong("535 5.7.8 wrong name or password"),
        }
    }

    /// What the client says to a challenge, unless it said so before being asked; `None` if it gave up.
    fn answer(&mut self, challenge: &str, given: Option<String>) -> io::Result<Option<Vec<u8>>> {
        let text = match given {
            Some(text) => text.into_bytes(),
            None => {
                self.reply(challenge)?;
                match self.wire.line(LINE_LIMIT)? {
                    Line::Whole(line) => line,
                    Line::TooLong => return Ok(None),
                    Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        // RFC 4954 section 4: "=" is an empty initial response.
        let text = if text == b"=" { Vec::new() } else { text };
        Ok(BASE64.decode_to_vec(text.trim_ascii()).ok())
    }

    fn mail(&mut self, from: MailFrom<String>) -> io::Result<()> {
        if self.hello.is_none() {
            return self.wrong("503 5.5.1 say EHLO first");
        }
        if self.mail.is_some() {
            return self.wrong("503 5.5.1 one message at a time");
        }
        if from.size as u64 > self.house.max_size {
            return self.wrong(&too_big(self.house.max_size));
        }
        let reply = format!("250 2.1.0 sender <{}> ok", from.address);
        self.mail = Some(Mail { sender: from.address, recipients: Vec::new(), chunks: None });
        self.reply(&reply)
    }

    fn recipient(&mut self, address: &str) -> io::Result<()> {
        let Some(mail) = &mut self.mail else { return self.wrong("503 5.5.1 MAIL first") };
        if mail.chunks.is_some() {
            return self.wrong("503 5.5.1 the message has begun");
        }
        if mail.recipients.len() >= MOST_RECIPIENTS {
            return self.reply("452 4.5.3 too many recipients");
        }
        match self.house.accounts.recipient(address) {
            Some(account) => {
                mail.recipients.push((address.to_string(), account));
                self.reply(&format!("250 2.1.5 recipient <{address}> ok"))
            }
            None => self.reply(&format!("550 5.1.1 no user <{address}> here")),
        }
    }

    fn data(&mut self) -> io::Result<()> {
        match &self.mail {
            None => return self.wrong("503 5.5.1 MAIL first"),
            Some(mail) if mail.chunks.is_some() => return self.wrong("503 5.5.1 go on with BDAT"),
            Some(mail) if mail.recipients.is_empty() => return self.wrong("554 5.5.1 no valid recipients"),
            Some(_) => {}
        }
        let mut body = self.open_body();
        self.reply("354 go ahead, end with a dot")?;
        let (mut receiver, mut clear) = (DataReceiver::new(), Vec::new());
        loop {
            if self.wire.buffered().is_empty() && self.wire.fill()? == 0 {
                return Ok(());
            }
            let piece = self.wire.buffered();
            let mut rest = piece.iter();
            let done = receiver.ingest(&mut rest, &mut clear);
            let used = piece.len() - rest.as_slice().len();
            self.wire.take(used);
            // The receiver takes a last CR back when it turns out to belong to the final dot: keep it within reach.
            let keep = if !done && clear.last() == Some(&b'\r') { 1 } else { 0 };
            let ready = clear.len() - keep;
            body.write(clear.get(..ready).unwrap_or(&[]), self.house.max_size);
            clear.drain(..ready);
            if done {
                return self.deliver(body);
            }
        }
    }

    /// RFC 3030: the bytes follow the command at once and have to be read whatever the answer.
    fn chunk(&mut self, size: u64, is_last: bool) -> io::Result<()> {
        let ready = self.mail.as_ref().is_some_and(|mail| !mail.recipients.is_empty());
        let begun = self.mail.as_mut().and_then(|mail| mail.chunks.take());
        let mut body = match (ready, begun) {
            (false, _) => {
                Body { file: None, head: 0, failed: Some("503 5.5.1 no valid recipients".to_string()) }
            }
            (true, Some(body)) => body,
            (true, None) => self.open_body(),
        };
        let max_size = self.house.max_size;
        let _ = self.wire.exactly(size, |piece| {
            body.write(piece, max_size);
            Ok(())
        })?;
        if body.failed.is_some() || is_last {
            return self.deliver(body);
        }
        if let Some(mail) = &mut self.mail {
            mail.chunks = Some(body);
        }
        self.reply(&format!("250 2.0.0 {size} bytes taken"))
    }

    /// Begins the file in the first recipient's Maildir, with the lines that a last MTA puts in front.
    fn open_body(&self) -> Body {
        let Some(mail) = &self.mail else { return Body::failed("503 5.5.1 MAIL first") };
        let Some((first, account)) = mail.recipients.first() else {
            return Body::failed("503 5.5.1 no valid recipients");
        };
        let protocol = match (self.extended, self.wire.is_tls(), self.login.is_some()) {
            (false, _, _) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, true, false) => "ESMTPS",
            (true, false, true) => "ESMTPA",
            (true, true, true) => "ESMTPSA",
        };
        let only = if mail.recipients.len() == 1 {
            format!("\r\n\tfor <{}>", one_line(first))
        } else {
            String::new()
        };
        let head = format!(
            "Return-Path: <{}>\r\nReceived: from {} ([127.0.0.1])\r\n\tby localhost (mail-sandbox) with {protocol}{only};\r\n\t{}\r\n",
            one_line(&mail.sender),
            one_line(self.hello.as_deref().unwrap_or("unknown")),
            jiff::Zoned::now().strftime("%a, %-d %b %Y %H:%M:%S %z"),
        );
        let file = account.inbox().and_then(|inbox| inbox.incoming()).and_then(|mut file| {
            file.write_all(head.as_bytes())?;
            Ok(file)
        });
        match file {
            Ok(file) => Body { file: Some(file), head: head.len() as u64, failed: None },
            Err(why) => Body::failed(&disk_trouble(&why)),
        }
    }

    /// Stores the message for every recipient, once each, and answers.
    fn deliver(&mut self, body: Body) -> io::Result<()> {
        let Some(mail) = self.mail.take() else {
            return self.wrong(body.failed.as_deref().unwrap_or("503 5.5.1 MAIL first"));
        };
        if let Some(failed) = &body.failed {
            return self.reply(failed);
        }
        let Some(mut file) = body.file else {
            return self.reply("451 4.3.0 the message was lost; send it again");
        };
        let stored = file.finish(None).and_then(|piece| {
            let mut done: Vec<&str> = Vec::new();
            for (_, account) in &mail.recipients {
                // Two recipients of one message may be the same user, with a +tag for instance.
                if !done.contains(&account.address()) {
                    account.inbox()?.add(std::slice::from_ref(&piece))?;
                    done.push(account.address());
                }
            }
            Ok(())
        });
        match stored {
            Ok(()) => self.reply("250 2.0.0 stored"),
            Err(why) => self.reply(&disk_trouble(&why)),
        }
    }

    fn wrong(&mut self, text: &str) -> io::Result<()> {
        self.errors += 1;
        self.reply(text)
    }

    fn reply(&mut self, text: &str) -> io::Result<()> {
        write!(self.wire, "{}\r\n", one_line(text))
    }
}

impl Body {
    fn failed(reply: &str) -> Body {
        Body { file: None, head: 0, failed: Some(reply.to_string()) }
    }

    fn write(&mut self, bytes: &[u8], max_size: u64) {
        let Some(file) = &mut self.file else { return };
        let failed = match file.size() - self.head + bytes.len() as u64 > max_size {
            true => too_big(max_size),
            false => match file.write_all(bytes) {
                Ok(()) => return,
                Err(why) => disk_trouble(&why),
            },
        };
        self.failed = Some(failed);
        self.file = None;
    }
}

/// What the client said, fit to stand in a reply or a header.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn too_big(max_size: u64) -> String {
    format!("552 5.3.4 more than {max_size} bytes")
}

fn disk_trouble(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "452 4.3.1 the disk is full".to_string(),
        _ => "451 4.3.0 cannot store it now".to_string(),
    }
}

fn complaint(error: &Error) -> String {
    match error {
        Error::UnknownCommand | Error::NeedsMoreData { .. } => "500 5.5.2 unknown command".to_string(),
        Error::InvalidSenderAddress => "501 5.1.7 no valid sender address".to_string(),
        Error::InvalidRecipientAddress => "501 5.1.3 no valid recipient address".to_string(),
        Error::SyntaxError { syntax } => format!("501 5.5.4 write it as {syntax}"),
        Error::InvalidParameter { param } => format!("501 5.5.4 wrong parameter {param}"),
        Error::UnsupportedParameter { param } => format!("555 5.5.4 unknown parameter {param}"),
        Error::ResponseTooLong | Error::InvalidResponse { .. } => {
            "500 5.5.2 cannot understand that".to_string()
        }
    }
}
