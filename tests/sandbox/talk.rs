//! A connection spoken to byte by byte. What does not come within 20 seconds fails the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub struct Talk {
    stream: BufReader<Box<dyn Stream>>,
    /// The connection below TLS.
    sock: TcpStream,
    tags: u32,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Talk {
    /// Connects to a `smtp://` or `imap://` address; the greeting is still to be read.
    #[track_caller]
    pub fn connect(url: &str) -> Talk {
        let sock = dial(url);
        let stream = sock.try_clone().expect("a handle");
        Talk { stream: BufReader::new(Box::new(stream)), sock, tags: 0 }
    }

    /// Connects to an `imaps://` or `smtps://` address, trusting what the sandbox's authority signed and nothing else.
    #[track_caller]
    pub fn tls(url: &str, ca: &Path) -> Talk {
        let mut talk = Talk::connect(&url.replace("localhost", "127.0.0.1"));
        talk.start_tls(ca);
        talk
    }

    /// Goes over to TLS; the handshake is made at the first word.
    #[track_caller]
    pub fn start_tls(&mut self, ca: &Path) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(tls, self.sock.try_clone().expect("a handle"));
        self.stream = BufReader::new(Box::new(stream));
    }

    /// Connects to IMAP as me@by.example and selects INBOX.
    #[track_caller]
    pub fn inbox(url: &str) -> Talk {
        let mut talk = Talk::imap(url);
        talk.ok("SELECT INBOX");
        talk
    }

    /// Connects to IMAP as me@by.example.
    #[track_caller]
    pub fn imap(url: &str) -> Talk {
        let mut talk = Talk::connect(url);
        assert!(talk.line().starts_with("* OK [CAPABILITY IMAP4rev1 "));
        talk.ok("LOGIN me secret");
        talk
    }

    /// Connects to SMTP and says EHLO.
    #[track_caller]
    pub fn smtp(url: &str) -> Talk {
        let mut talk = Talk::connect(url);
        talk.expect("220 ");
        talk.send("EHLO client.example\r\n");
        while talk.line().starts_with("250-") {}
        talk
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the server takes it");
        self.stream.get_mut().flush().expect("the server takes it");
    }

    /// The next line without its end; empty at the end of the connection.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a line in time");
        String::from_utf8_lossy(&line).trim_end().to_string()
    }

    #[track_caller]
    pub fn expect(&mut self, start: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(start), "expected {start}…, got {line}");
        line
    }

    /// Sends a line and expects a reply that starts so.
    #[track_caller]
    pub fn say(&mut self, line: &str, start: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.expect(start)
    }

    /// Sends an IMAP command and gives all lines up to its tagged answer.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> Vec<String> {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.send([tag.as_bytes(), b" ", command.as_ref(), b"\r\n"].concat());
        self.answer(&tag)
    }

    /// All lines up to that of the tag; literals are among the lines.
    #[track_caller]
    pub fn answer(&mut self, tag: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty() || !self.at_end(), "the connection ended after {lines:?}");
            let last = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// An IMAP command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> Vec<String> {
        let shown = String::from_utf8_lossy(command.as_ref()).into_owned();
        let lines = self.command(command);
        assert!(lines.last().unwrap().contains(" OK"), "{shown}: {lines:#?}");
        lines
    }

    /// An IMAP command that must be answered with this word, `NO` or `BAD`.
    #[track_caller]
    pub fn refused(&mut self, command: &str, word: &str) -> String {
        let last = self.command(command).pop().unwrap();
        assert!(last.contains(&format!(" {word} ")), "{command}: {last}");
        last
    }

    /// True once the server has closed the connection.
    pub fn at_end(&mut self) -> bool {
        self.stream.fill_buf().map_or(true, <[u8]>::is_empty)
    }

    /// Says that nothing more will come, and reads until the server has closed too.
    pub fn finish(mut self) {
        self.sock.shutdown(std::net::Shutdown::Write).expect("an open connection");
        // A server that closed first, with bytes of ours unread, resets the connection: an end as well.
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    pub fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }
}

#[track_caller]
fn dial(url: &str) -> TcpStream {
    let address = url.split_once("://").expect("an address of the sandbox").1;
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Hands a message to me@by.example.
#[track_caller]
pub fn deliver(smtp: &str, message: &str) {
    let mut talk = Talk::smtp(smtp);
    talk.say("MAIL FROM:<a@b.example>", "250 2.1.0");
    talk.say("RCPT TO:<me@by.example>", "250 2.1.5");
    talk.say("DATA", "354");
    talk.send(format!("{message}\r\n.\r\n"));
    talk.expect("250 2.0.0");
    talk.say("QUIT", "221");
}
