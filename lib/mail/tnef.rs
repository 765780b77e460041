//! TNEF, the `winmail.dat` that Outlook wraps attachments in ([MS-OXTNEF]): where in its bytes the files lie.
//!
//! ```text
//! stream     = signature(4) key(2) *attribute
//! attribute  = level(1) id(4) length(4) data checksum(2)
//! properties = count(4) *( type(2) id(2) [guid(16) named] value )          [MS-OXCDATA] 2.11
//! ```
//!
//! Nothing is copied but names; every length is held against what is there, so a damaged or hostile stream gives what
//! stood before the damage.

use std::ops::Range;

use super::words;

const SIGNATURE: [u8; 4] = [0x78, 0x9f, 0x3e, 0x22];
/// More files than this in one stream are left out.
const MOST: usize = 10_000;

const RENDER_DATA: u32 = 0x0006_9002;
const TITLE: u32 = 0x0001_8010;
const DATA: u32 = 0x0006_800f;
const ATTACHMENT: u32 = 0x0006_9005;
const CODE_PAGE: u32 = 0x0006_9007;

const LONG_NAME: u16 = 0x3707;
const SHORT_NAME: u16 = 0x3704;
const DISPLAY_NAME: u16 = 0x3001;
const MIME_TYPE: u16 = 0x370e;
const OBJECT: u16 = 0x3701;
/// IID_IMessage, in front of a message within: a TNEF stream of its own.
const MESSAGE_IID: [u8; 16] = [0x07, 0x03, 0x02, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46];

/// One file in a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct File {
    /// As the sender called it.
    pub name: Option<String>,
    /// Its type as the sender said it.
    pub said: Option<String>,
    /// Where its bytes lie in the stream.
    pub data: Range<usize>,
    /// True for a message within, whose bytes are a stream again.
    pub is_stream: bool,
}

/// What a stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they stand.
    pub files: Vec<File>,
    /// What was wrong with it.
    pub damage: Option<&'static str>,
}

/// True if these bytes begin as a TNEF stream.
pub fn is_tnef(head: &[u8]) -> bool {
    head.starts_with(&SIGNATURE)
}

/// Finds the files in a stream; `None` if it is none.
pub fn read(stream: &[u8]) -> Option<Found> {
    let mut scan = Scan { bytes: stream, at: 6 };
    if !is_tnef(stream) {
        return None;
    }
    let mut found = Found::default();
    let mut charset = "windows-1252".to_string();
    let mut named_by_title = true;
    while scan.at < stream.len() {
        let Some((id, data)) = scan.attribute() else {
            found.damage = Some("TNEF: cut short");
            break;
        };
        let bytes = &stream[data.clone()];
        if id == RENDER_DATA {
            if found.files.len() >= MOST {
                found.damage = Some("TNEF: too many files");
                break;
            }
            found.files.push(File::default());
            named_by_title = true;
        }
        let Some(file) = found.files.last_mut() else {
            if id == CODE_PAGE {
                charset = code_page(bytes);
            }
            continue;
        };
        match id {
            DATA => file.data = data,
            TITLE if named_by_title => file.name = text(bytes, &charset).or(file.name.take()),
            ATTACHMENT => {
                named_by_title = !properties(stream, data, file, &charset);
            }
            _ => {}
        }
    }
    Some(found)
}

/// Reads the properties of an attachment into `file`; true if they gave it its long name.
fn properties(stream: &[u8], range: Range<usize>, file: &mut File, charset: &str) -> bool {
    let mut scan = Scan { bytes: &stream[..range.end], at: range.start };
    let mut rank = 0;
    let count = scan.u32().unwrap_or(0);
    for _ in 0..count {
        let Some(property) = scan.property() else { break };
        let bytes = &stream[property.value.clone()];
        let text = || match property.kind {
            0x001f => utf16(bytes),
            0x001e => text(bytes, charset),
            _ => None,
        };
        let better = match property.id {
            LONG_NAME => 3,
            SHORT_NAME => 2,
            DISPLAY_NAME => 1,
            _ => 0,
        };
        if better > rank {
            if let Some(name) = text() {
                (file.name, rank) = (Some(name), better);
            }
        } else if property.id == MIME_TYPE {
            file.said = text().map(|said| said.to_ascii_lowercase()).filter(|said| said.contains('/'));
        } else if property.id == OBJECT && property.kind == 0x000d && bytes.starts_with(&MESSAGE_IID) {
            file.data = property.value.start + MESSAGE_IID.len()..property.value.end;
            file.is_stream = is_tnef(&stream[file.data.clone()]);
        } else if property.id == OBJECT && file.data.is_empty() {
            file.data = property.value;
        }
    }
    rank > 1
}

/// `[0] = 0`: the first of two 32-bit numbers is the code page.
fn code_page(bytes: &[u8]) -> String {
    match bytes.first_chunk().map(|page| u32::from_le_bytes(*page)) {
        Some(932) => "shift_jis".to_string(),
        Some(936) => "gbk".to_string(),
        Some(949) => "euc-kr".to_string(),
        Some(950) => "big5".to_string(),
        Some(65001) => "utf-8".to_string(),
        Some(page) => format!("windows-{page}"),
        None => "windows-1252".to_string(),
    }
}

fn text(bytes: &[u8], charset: &str) -> Option<String> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => words::in_charset(charset.as_bytes(), bytes),
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let text: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(text).filter(|text| !text.trim().is_empty())
}

struct Property {
    kind: u16,
    id: u16,
    value: Range<usize>,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn u16(&mut self) -> Option<u16> {
        let range = self.take(2)?;
        self.bytes[range].first_chunk().map(|b| u16::from_le_bytes(*b))
    }

    fn u32(&mut self) -> Option<u32> {
        let range = self.take(4)?;
        self.bytes[range].first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    fn attribute(&mut self) -> Option<(u32, Range<usize>)> {
        self.take(1)?;
        let id = self.u32()?;
        let length = self.length()?;
        let data = self.take(length)?;
        // A checksum that is wrong or missing at the end does not spoil the data.
        self.at = (self.at + 2).min(self.bytes.len());
        Some((id, data))
    }

    fn property(&mut self) -> Option<Property> {
        let (kind, id) = (self.u16()?, self.u16()?);
        if id >= 0x8000 {
            self.take(16)?;
            if self.u32()? == 0 {
                self.u32()?;
            } else {
                let length = self.length()?;
                self.padded(length)?;
            }
        }
        let (many, kind) = (kind & 0x1000 != 0, kind & 0x0fff);
        let value = match kind {
            0x0002 | 0x000b | 0x0003 | 0x0004 | 0x000a => self.values(many, 4),
            0x0005 | 0x0006 | 0x0007 | 0x0014 | 0x0040 => self.values(many, 8),
            0x0048 => self.values(many, 16),
            0x000d | 0x001e | 0x001f | 0x0102 => self.strings(),
            _ => None,
        }?;
        Some(Property { kind, id, value })
    }

    fn values(&mut self, many: bool, size: usize) -> Option<Range<usize>> {
        let count = if many { self.length()? } else { 1 };
        self.take(count.checked_mul(size)?)
    }

    /// A count, then values of variable length, each padded to four bytes; gives the first.
    fn strings(&mut self) -> Option<Range<usize>> {
        let count = self.u32()?;
        let mut first = None;
        for _ in 0..count {
            let length = self.length()?;
            let value = self.padded(length)?;
            first.get_or_insert(value);
        }
        Some(first.unwrap_or(self.at..self.at))
    }

    fn padded(&mut self, length: usize) -> Option<Range<usize>> {
        let value = self.take(length)?;
        self.at = (self.at + (4 - length % 4) % 4).min(self.bytes.len());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(level: u8, id: u32, data: &[u8]) -> Vec<u8> {
        let sum = data.iter().fold(0u16, |sum, b| sum.wrapping_add(u16::from(*b)));
        let length = u32::try_from(data.len()).unwrap();
        [&[level][..], &id.to_le_bytes(), &length.to_le_bytes(), data, &sum.to_le_bytes()].concat()
    }

    fn stream(attributes: &[Vec<u8>]) -> Vec<u8> {
        [&SIGNATURE[..], &[1, 0], &attributes.concat()].concat()
    }

    fn long_name(name: &str) -> Vec<u8> {
        let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let length = u32::try_from(name.len()).unwrap();
        let mut out =
            [&1u32.to_le_bytes()[..], &[0x1f, 0, 0x07, 0x37], &1u32.to_le_bytes(), &length.to_le_bytes()]
                .concat();
        out.extend(name);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn files_with_short_and_long_names() {
        let bytes = stream(&[
            attribute(1, CODE_PAGE, &[0xe4, 4, 0, 0, 0, 0, 0, 0]),
            attribute(2, RENDER_DATA, &[0; 14]),
            attribute(2, TITLE, b"REPORT~1.PDF\0"),
            attribute(2, DATA, b"one"),
            attribute(2, ATTACHMENT, &long_name("r\u{e9}port.pdf")),
            attribute(2, RENDER_DATA, &[0; 14]),
            attribute(2, TITLE, b"caf\xe9.txt\0"),
            attribute(2, DATA, b"two"),
        ]);
        let found = read(&bytes).unwrap();
        let files: Vec<_> =
            found.files.iter().map(|f| (f.name.as_deref().unwrap(), &bytes[f.data.clone()])).collect();
        assert_eq!(files, [("r\u{e9}port.pdf", &b"one"[..]), ("caf\u{e9}.txt", b"two")]);
        assert_eq!(found.damage, None);
        let cut = read(&bytes[..bytes.len() - 8]).unwrap();
        assert_eq!((cut.files.len(), cut.damage.is_some()), (2, true));
        assert_eq!(read(b"no"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(data: Vec<u8>, id in prop_oneof![Just(ATTACHMENT), Just(TITLE), Just(DATA), any::<u32>()]) {
            read(&data);
            read(&[&SIGNATURE[..], &data].concat());
            read(&stream(&[attribute(2, RENDER_DATA, &[]), attribute(2, id, &data), data]));
        }
    }
}
