//! Questions and answers as bytes (RFC 1035 section 4). Pure; an answer is read without trust in any length in it.

const TXT: u16 = 16;
const CNAME: u16 = 5;
const INTERNET: u16 = 1;
/// What fits into one packet on nearly every path (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// So many aliases may lead from one name to the next.
const MOST_ALIASES: usize = 8;

/// What a resolver says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The records, each with its strings put together; none where there is no such name or no such record.
    Records(Vec<Vec<u8>>),
    /// It cannot tell: the response code (RFC 1035 section 4.1.1).
    Failed(u8),
    /// The answer did not fit, or cannot be read.
    Cut,
}

/// Labels in small letters.
type Name = Vec<Vec<u8>>;

/// The question for the TXT records of `name`; none if that is no domain name.
pub(super) fn query(name: &str, id: u16) -> Option<Vec<u8>> {
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion desired; one question, one additional record.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let start = packet.len();
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        packet.push(length);
        packet.extend(label.bytes());
    }
    packet.push(0);
    if packet.len() - start > 255 {
        return None;
    }
    packet.extend(TXT.to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    // EDNS (RFC 6891): longer answers over UDP.
    packet.extend([0, 0, 41]);
    packet.extend(PAYLOAD.to_be_bytes());
    packet.extend([0; 6]);
    Some(packet)
}

/// Reads the answer to `query`; none if it is one to something else.
pub(super) fn read(packet: &[u8], query: &[u8]) -> Option<Reply> {
    let mut answer = Reader { packet, at: 0 };
    let mut asked = Reader { packet: query, at: 12 };
    let (id, flags, questions, count) =
        (answer.number()?, answer.number()?, answer.number()?, answer.number()?);
    answer.at = 12;
    let is_response = flags & 0x8000 != 0;
    if !is_response || id.to_be_bytes() != query.get(..2)? || questions != 1 {
        return None;
    }
    let name = answer.name()?;
    if name != asked.name()? || answer.number()? != TXT || answer.number()? != INTERNET {
        return None;
    }
    let code = flags.to_be_bytes()[1] & 0x0f;
    Some(match code {
        _ if flags & 0x0200 != 0 => Reply::Cut,
        0 => answer.records(count, name).map_or(Reply::Cut, Reply::Records),
        // There is no such name.
        3 => Reply::Records(Vec::new()),
        code => Reply::Failed(code),
    })
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u16> {
        let bytes = self.octets(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    /// Labels, of which the last may point to others further up (section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let (mut name, mut at, mut end) = (Vec::new(), self.at, None);
        let mut octets = 0;
        loop {
            let length = usize::from(*self.packet.get(at)?);
            match length {
                0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(name);
                }
                1..=63 => {
                    let label = self.packet.get(at + 1..at + 1 + length)?;
                    octets += length + 1;
                    if octets > 255 {
                        return None;
                    }
                    name.push(label.to_ascii_lowercase());
                    at += 1 + length;
                }
                0xc0.. => {
                    let low = usize::from(*self.packet.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    let to = (length & 0x3f) << 8 | low;
                    // Only ever upwards: so it ends.
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
    }

    /// The TXT records of `name`, or of what it is an alias for.
    fn records(&mut self, count: u16, mut name: Name) -> Option<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for _ in 0..count {
            let owner = self.name()?;
            let (kind, class) = (self.number()?, self.number()?);
            self.octets(4)?;
            let length = usize::from(self.number()?);
            let at = self.at;
            let data = self.octets(length)?;
            if class == INTERNET && (kind == TXT || kind == CNAME) {
                all.push((owner, kind, at, data));
            }
        }
        for _ in 0..MOST_ALIASES {
            let own = |wanted: u16| all.iter().filter(move |(_, kind, ..)| *kind == wanted);
            let found: Vec<Vec<u8>> = own(TXT)
                .filter(|(owner, ..)| *owner == name)
                .map(|(.., data)| strings(data))
                .collect::<Option<_>>()?;
            let alias = own(CNAME).find(|(owner, ..)| *owner == name);
            match alias {
                Some((_, _, at, _)) if found.is_empty() => {
                    name = Reader { packet: self.packet, at: *at }.name()?;
                }
                _ => return Some(found),
            }
        }
        Some(Vec::new())
    }
}

/// `*<character-string>`, put together (RFC 6376 section 3.6.2.2).
fn strings(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        text.extend_from_slice(string);
        data = rest;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to `query` with these records, their owners pointing to the question.
    fn answer(query: &[u8], flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut packet = query[..query.len() - 11].to_vec();
        packet[2..4].copy_from_slice(&flags);
        packet[7] = records.len() as u8;
        packet[11] = 0;
        for (owner, kind, data) in records {
            packet.extend_from_slice(owner);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 9]);
            packet.extend((data.len() as u16).to_be_bytes());
            packet.extend_from_slice(data);
        }
        packet
    }

    const OWN: &[u8] = &[0xc0, 12];

    #[test]
    fn records_and_aliases() {
        let query = query("s._domainkey.By.example", 7).unwrap();
        let other = b"\x01k\x03esp\x07example\0";
        let one = answer(&query, [0x81, 0x80], &[(OWN, TXT, b"\x03abc\x01d"), (OWN, TXT, b"\x01e")]);
        assert_eq!(read(&one, &query), Some(Reply::Records(vec![b"abcd".to_vec(), b"e".to_vec()])));
        let alias = answer(&query, [0x81, 0x80], &[(other, TXT, b"\x01k"), (OWN, CNAME, other)]);
        assert_eq!(read(&alias, &query), Some(Reply::Records(vec![b"k".to_vec()])));
        // A record of somebody else is none of ours.
        let stray = answer(&query, [0x81, 0x80], &[(other, TXT, b"\x01k")]);
        assert_eq!(read(&stray, &query), Some(Reply::Records(vec![])));
        assert_eq!(read(&answer(&query, [0x81, 0x83], &[]), &query), Some(Reply::Records(vec![])));
        assert_eq!(read(&answer(&query, [0x81, 0x82], &[]), &query), Some(Reply::Failed(2)));
        assert_eq!(read(&answer(&query, [0x83, 0x80], &[]), &query), Some(Reply::Cut));
        let circle = answer(&query, [0x81, 0x80], &[(OWN, CNAME, OWN)]);
        assert_eq!(read(&circle, &query), Some(Reply::Records(vec![])));
    }

    #[test]
    fn other_answers_are_none_and_broken_ones_are_no_panic() {
        let asked = query("a.example", 7).unwrap();
        let good = answer(&asked, [0x81, 0x80], &[(OWN, TXT, b"\x03abc")]);
        assert_eq!(read(&good, &query("a.example", 8).unwrap()), None);
        assert_eq!(read(&good, &query("b.example", 7).unwrap()), None);
        assert_eq!(read(&asked, &asked), None);
        for cut in 0..good.len() {
            assert_ne!(read(&good[..cut], &asked), Some(Reply::Records(vec![b"abc".to_vec()])), "{cut}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                read(&bad, &asked);
            }
        }
        for name in ["", "a..b", ".a", &"a".repeat(64), &["a"; 130].join(".")] {
            assert_eq!(query(name, 1), None, "{name}");
        }
    }
}
