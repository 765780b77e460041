//! A server that plays a transcript, for rudeness that a polite server cannot produce.
//!
//! One script for each connection, in turn; one step a line:
//!
//! ```text
//! S: 220 hello        send this line (CRLF is added; \r \n \0 \xff are understood)
//! S- 220 hel          send these bytes and nothing after them
//! C: EHLO *           read a line, which must be this; * stands for the rest of the line
//! C? QUIT             the same, but the client may also just close
//! C~ .                read lines up to and with this one
//! CLOSE               close the connection (also at the end of the script)
//! STALL               say nothing more; wait until the client closes
//! PAUSE               wait until the test says `go`
//! ```
//!
//! It speaks no protocol of its own, so it serves for SMTP and IMAP alike.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// A playing server.
pub struct Transcript {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    paused: Receiver<()>,
    go: Sender<()>,
    player: Option<JoinHandle<Result<Vec<String>, String>>>,
}

impl Transcript {
    /// Listens on a loopback port and plays one script for each connection, in their order.
    pub fn play<S: Into<String>>(scripts: impl IntoIterator<Item = S>) -> Transcript {
        Transcript::play_on(TcpListener::bind("127.0.0.1:0").expect("a loopback port"), scripts)
    }

    /// The same on a port that is listened on already.
    pub fn play_on<S: Into<String>>(
        listener: TcpListener,
        scripts: impl IntoIterator<Item = S>,
    ) -> Transcript {
        let scripts: Vec<String> = scripts.into_iter().map(Into::into).collect();
        let address = listener.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let (pausing, paused) = mpsc::channel();
        let (go, going) = mpsc::channel();
        let pause = move || {
            let _ = pausing.send(());
            let _ = going.recv_timeout(Duration::from_secs(30));
        };
        let player = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for script in scripts {
                let (socket, _) = listener.accept().map_err(|why| why.to_string())?;
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                connection(socket, &script, &mut heard, &pause)?;
            }
            Ok(heard)
        });
        Transcript { address, over, paused, go, player: Some(player) }
    }

    /// `smtp://127.0.0.1:PORT`
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Waits until the play has come to a PAUSE.
    #[track_caller]
    pub fn await_pause(&self) {
        self.paused.recv_timeout(Duration::from_secs(30)).expect("the play comes to its PAUSE");
    }

    /// Ends a PAUSE.
    pub fn go(&self) {
        let _ = self.go.send(());
    }

    /// Waits for the end of the play; every line that the clients sent. Panics where one said something else.
    #[track_caller]
    pub fn heard(mut self) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        // Scripts that nobody came for: wake the listener.
        let _ = TcpStream::connect(self.address);
        let player = self.player.take().expect("taken once");
        player.join().expect("the player does not panic").unwrap_or_else(|why| panic!("{why}"))
    }
}

fn connection(
    socket: TcpStream,
    script: &str,
    heard: &mut Vec<String>,
    pause: &dyn Fn(),
) -> Result<(), String> {
    socket.set_read_timeout(Some(Duration::from_secs(30))).map_err(|why| why.to_string())?;
    let mut writer = socket.try_clone().map_err(|why| why.to_string())?;
    let mut reader = BufReader::new(socket);
    for step in script.lines().map(str::trim).filter(|step| !step.is_empty()) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let sent = match word {
            "S:" => writer.write_all(&[unescaped(rest), b"\r\n".to_vec()].concat()),
            "S-" => writer.write_all(&unescaped(rest)),
            "C:" | "C?" | "C~" => {
                if !listen(&mut reader, word, rest, heard)? {
                    return Ok(());
                }
                Ok(())
            }
            "PAUSE" => {
                pause();
                Ok(())
            }
            "CLOSE" => return Ok(()),
            "STALL" => {
                let _ = reader.read_to_end(&mut Vec::new());
                return Ok(());
            }
            _ => return Err(format!("no such step: {step:?}")),
        };
        // The client may have left early; what it said is what counts.
        if sent.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// False if the client closed where it may.
fn listen(
    reader: &mut impl BufRead,
    word: &str,
    wanted: &str,
    heard: &mut Vec<String>,
) -> Result<bool, String> {
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line);
        if read.as_ref().map_or(true, |n| *n == 0) {
            return match word {
                "C?" => Ok(false),
                _ => Err(format!(
                    "the client left ({read:?}) where {wanted:?} was awaited; it said {heard:#?}"
                )),
            };
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string();
        heard.push(line.clone());
        let fits = match wanted.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == wanted,
        };
        match (word, fits) {
            (_, true) => return Ok(true),
            ("C~", false) => {}
            _ => {
                return Err(format!(
                    "the client said {line:?} where {wanted:?} was awaited; so far {heard:#?}"
                ));
            }
        }
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, false) => out.push(byte),
            _ => match bytes.next() {
                Some(b'r') => out.push(b'\r'),
                Some(b'n') => out.push(b'\n'),
                Some(b'0') => out.push(0),
                Some(b'x') => {
                    let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                    let digits = std::str::from_utf8(&digits).expect("two hex digits");
                    out.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
                }
                other => out.extend(other),
            },
        }
    }
    out
}

#[test]
fn it_plays_and_listens() {
    let play = Transcript::play(["S: hi\nC: a *\nC~ .\nS- b\\r\\n\\xff"]);
    let mut client = TcpStream::connect(play.address).unwrap();
    client.write_all(b"a b\r\nc\r\n.\r\n").unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"hi\r\nb\r\n\xff");
    assert_eq!(play.heard(), ["a b", "c", "."]);
}
