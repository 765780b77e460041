//! A polite SMTP server that writes down what it is told, command by command and message by message, and may cut the
//! line after a number of bytes in either direction. One connection at a time, any number of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the first connection is cut; later ones are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// After so many bytes were sent to the client.
    Said(usize),
    /// After so many bytes came from the client.
    Heard(usize),
}

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Commands with their arguments, without line ends.
    pub commands: Vec<String>,
    /// Messages whose end was seen, dots undone.
    pub messages: Vec<Vec<u8>>,
    /// How many bytes went each way.
    pub said: usize,
    pub heard: usize,
}

pub struct Sink {
    pub address: SocketAddr,
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Sink {
    /// Offers these abilities in its answer to EHLO.
    pub fn open(abilities: &[&str], cut: Cut) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("it is bound");
        let (told, over) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
        let (telling, ended) = (told.clone(), over.clone());
        let lines: String = abilities.iter().map(|each| format!("250-{each}\r\n")).collect();
        let server = std::thread::spawn(move || {
            let mut cut = cut;
            while let Ok((socket, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let mut talk = Talk::over(socket, std::mem::replace(&mut cut, Cut::Never), telling.clone());
                // Where it is cut, it ends.
                let _ = talk.serve(&lines);
            }
        });
        Sink { address, told, over, server: Some(server) }
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Ends it and gives what it was told.
    pub fn told(mut self) -> Told {
        self.end();
        self.told.lock().expect("nobody panicked").clone()
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end();
    }
}

struct Talk {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    cut: Cut,
    told: Arc<Mutex<Told>>,
}

impl Talk {
    fn over(socket: TcpStream, cut: Cut, told: Arc<Mutex<Told>>) -> Talk {
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        let writer = socket.try_clone().expect("a socket");
        Talk { reader: BufReader::new(socket), writer, cut, told }
    }

    fn serve(&mut self, abilities: &str) -> std::io::Result<()> {
        self.say("220 sink ESMTP\r\n")?;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(&line)).into_owned();
            self.told.lock().expect("nobody panicked").commands.push(text.clone());
            let verb = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.say(&format!("250-sink\r\n{abilities}250 HELP\r\n"))?,
                "DATA" => {
                    self.say("354 go\r\n")?;
                    let message = self.message()?;
                    self.told.lock().expect("nobody panicked").messages.push(message);
                    self.say("250 2.0.0 taken\r\n")?;
                }
                "QUIT" => return self.say("221 bye\r\n"),
                "MAIL" | "RCPT" | "RSET" | "NOOP" => self.say("250 ok\r\n")?,
                _ => self.say("500 what\r\n")?,
            }
        }
    }

    fn message(&mut self) -> std::io::Result<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let line = self.line()?;
            match &line[..] {
                b"" => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                b".\r\n" => return Ok(message),
                _ => message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line)),
            }
        }
    }

    /// A line up to and with CRLF; a bare LF ends none.
    fn line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let left = match self.cut {
                Cut::Heard(n) => n.saturating_sub(self.told.lock().expect("nobody panicked").heard),
                _ => usize::MAX,
            };
            let before = line.len();
            let most = u64::try_from(left).unwrap_or(u64::MAX);
            (&mut self.reader).take(most).read_until(b'\n', &mut line)?;
            self.told.lock().expect("nobody panicked").heard += line.len() - before;
            if line.len() == before {
                return if left == 0 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(Vec::new()) };
            }
        }
        Ok(line)
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        let mut told = self.told.lock().expect("nobody panicked");
        let left = match self.cut {
            Cut::Said(n) => n.saturating_sub(told.said),
            _ => usize::MAX,
        };
        let part = &text.as_bytes()[..text.len().min(left)];
        self.writer.write_all(part)?;
        told.said += part.len();
        if part.len() < text.len() || left == text.len() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}
