//! A name server on loopback with a few TXT records, over UDP and TCP, that can also fail in the ways of real ones.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

/// What is said of a name.
#[derive(Clone)]
pub enum Said {
    Txt(Vec<String>),
    /// Another name, whose records come along.
    Alias(String),
    /// SERVFAIL.
    Failure,
    /// Nothing at all.
    Silence,
}

/// The server; it ends with the process.
pub struct Zone {
    pub address: SocketAddr,
    names: Names,
    asked: Arc<Mutex<Vec<String>>>,
}

type Names = Arc<Mutex<HashMap<String, Said>>>;

impl Zone {
    pub fn serve() -> Zone {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let zone =
            Zone { address: udp.local_addr().unwrap(), names: Names::default(), asked: Arc::default() };
        let (names, asked) = (zone.names.clone(), zone.asked.clone());
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                if let Some(answer) = answer(&packet[..length], &names, &asked, false) {
                    udp.send_to(&answer, from).ok();
                }
            }
        });
        let (names, asked) = (zone.names.clone(), zone.asked.clone());
        std::thread::spawn(move || {
            for mut socket in tcp.incoming().flatten() {
                let mut length = [0; 2];
                socket.read_exact(&mut length).unwrap();
                let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                socket.read_exact(&mut packet).unwrap();
                if let Some(answer) = answer(&packet, &names, &asked, true) {
                    let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
                    framed.extend(answer);
                    // In two pieces, as a slow line would.
                    socket.write_all(&framed[..1]).unwrap();
                    socket.write_all(&framed[1..]).unwrap();
                }
            }
        });
        zone
    }

    pub fn set(&self, name: &str, said: Said) {
        self.names.lock().unwrap().insert(name.to_ascii_lowercase(), said);
    }

    pub fn forget(&self, name: &str) {
        self.names.lock().unwrap().remove(&name.to_ascii_lowercase());
    }

    /// The names that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(query: &[u8], names: &Names, asked: &Mutex<Vec<String>>, tcp: bool) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let name = labels.join(".");
    asked.lock().unwrap().push(name.clone());
    let names = names.lock().unwrap();
    let mut packet = query[..at + 5].to_vec();
    packet[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut records = Vec::new();
    match names.get(&name) {
        None => packet[3] = 0x83,
        Some(Said::Failure) => packet[3] = 0x82,
        Some(Said::Silence) => return None,
        Some(Said::Txt(texts)) => records.extend(texts.iter().map(|text| txt(&[0xc0, 12], text))),
        Some(Said::Alias(to)) => {
            let owner = encoded(to);
            records.push(record(&[0xc0, 12], 5, &owner));
            if let Some(Said::Txt(texts)) = names.get(to) {
                records.extend(texts.iter().map(|text| txt(&owner, text)));
            }
        }
    }
    packet[7] = records.len() as u8;
    packet.extend(records.concat());
    if packet.len() > 1232 && !tcp {
        packet.truncate(at + 5);
        packet[2] |= 2;
        packet[7] = 0;
    }
    Some(packet)
}

fn txt(owner: &[u8], text: &str) -> Vec<u8> {
    let strings = text.as_bytes().chunks(200).flat_map(|piece| [&[piece.len() as u8], piece].concat());
    record(owner, 16, &strings.collect::<Vec<u8>>())
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let head = [&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes()].concat();
    [owner, &head, data].concat()
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}
