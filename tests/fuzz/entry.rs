//! What is fuzzed, shared by the cargo-fuzz targets and the property tests: any bytes at each of the doors that a
//! stranger's message comes through. A panic is a fault, and so is a broken promise.
#![allow(dead_code, reason = "each target uses one door")]

use mailloop::mail::decode::{self, Encoding};
use mailloop::mail::name::{self, SafeName};
use mailloop::mail::part::{Limits, Tree};
use mailloop::mail::{cms, mbox, sniff, summary, tnef};

/// Any bytes as a message, and as an mbox.
pub fn message(data: &[u8]) {
    let tree = Tree::parse(data, &Limits::default());
    assert!(!tree.parts.is_empty() || tree.cut.is_some());
    for part in &tree.parts {
        let head = decode::decode_head(&part.encoding, tree.body(part), sniff::HEAD);
        sniff::sniff(&head);
        tree.name(part);
        let mut out = Vec::new();
        let decoded =
            decode::decode(&part.encoding, tree.body(part), &mut out).expect("a Vec takes everything");
        assert_eq!(decoded.size, out.len() as u64);
    }
    summary::Summary::of(data);
    summary::outer_from(data);
    if let Some(ranges) = mbox::messages(data) {
        let mut end = 0;
        for range in ranges {
            assert!(range.start == end && range.end <= data.len());
            end = range.end;
        }
        assert_eq!(end, data.len());
    }
}

/// Any bytes as a part's header, and as a name: what comes out creates one file in the directory.
pub fn filename(data: &[u8]) {
    let sent = name::sent(data).map(|sent| sent.path);
    for name in [sent, Some(String::from_utf8_lossy(data).into_owned())] {
        let safe = SafeName::new(name.as_deref(), Some("pdf"));
        for safe in [safe.clone(), safe.with_digest("0123456789abcdef")] {
            let text = safe.as_str();
            assert!(!text.is_empty() && text.len() <= name::LONGEST, "{text:?}");
            assert!(
                !text.starts_with(['.', '-', ' ']) && !text.contains(['/', '\\', '\0', '\n']),
                "{text:?}"
            );
        }
    }
}

/// Any bytes as TNEF, and as CMS: what is found lies within.
pub fn tnef(data: &[u8]) {
    let stream = [&[0x78, 0x9f, 0x3e, 0x22, 0, 0][..], data].concat();
    for bytes in [data, &stream] {
        for file in tnef::read(bytes).into_iter().flat_map(|found| found.files) {
            assert!(bytes.get(file.data).is_some());
        }
    }
    if let Some(cms::Cms::Signed(pieces)) = cms::read(data) {
        assert!(pieces.into_iter().all(|piece| data.get(piece).is_some()));
    }
}

/// Any bytes in each encoding; what comes out is bounded by what went in.
pub fn base64(data: &[u8]) {
    for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Uuencode, Encoding::Identity] {
        let mut out = Vec::new();
        let decoded = decode::decode(&encoding, data, &mut out).expect("a Vec takes everything");
        assert_eq!(decoded.size, out.len() as u64);
        assert!(out.len() <= 2 * data.len() + 64 * 1024, "{} of {}", out.len(), data.len());
        decode::decode_head(&encoding, data, 16);
    }
}
