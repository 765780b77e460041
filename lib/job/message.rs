//! The record of a message that lies in a Maildir, from its place and its bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::mail::summary::Summary;
use crate::record::{Message, hex};
use crate::store::cursor;
use crate::store::maildir::Name;

/// Headers beyond this are not looked at for a record.
const LONGEST_HEAD: u64 = 1 << 20;

/// The record of the message in this file, read for its head and its digest.
pub fn record_of_file(path: &Path) -> Result<Message> {
    let failed = |why| Error::reading(path, why);
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(LONGEST_HEAD).read_to_end(&mut head).map_err(failed)?;
    let mut digest = Sha256::new();
    digest.update(&head);
    let (mut size, mut buffer) = (head.len() as u64, vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => {
                digest.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    let mut message = record_of_bytes(path, &head);
    (message.size, message.sha256) = (Some(size), Some(hex(&digest.finalize())));
    Ok(message)
}

/// The record of a message whose bytes (or at least its head) are at hand; `size` and `sha256` are left to the caller.
pub fn record_of_bytes(path: &Path, bytes: &[u8]) -> Message {
    let summary = Summary::of(bytes);
    let mut message = Message {
        state: "delivered".into(),
        path: path.into(),
        message_id: summary.message_id,
        from: summary.from,
        to: summary.to,
        subject: summary.subject,
        date: summary.date,
        received: received(path),
        ..Message::fresh()
    };
    add_origin(&mut message, path);
    message
}

/// A delivered file's modification time is its INTERNALDATE; for other files it is the best guess there is.
fn received(path: &Path) -> Option<String> {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
    let time = jiff::Timestamp::try_from(modified).ok()?;
    jiff::Timestamp::from_second(time.as_second()).ok().map(|time| time.to_string())
}

/// Account, mailbox and UIDs, where we delivered the message ourselves.
fn add_origin(message: &mut Message, path: &Path) {
    let Some(name) =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Name>().ok())
    else {
        return;
    };
    (message.uidvalidity, message.uid) = (Some(name.uidvalidity), Some(name.uid));
    let Some(maildir) = path.parent().and_then(Path::parent) else { return };
    let owner = crate::durable::Dir::open(maildir).ok().and_then(|dir| cursor::owner(&dir, &name.source));
    if let Some((account, mailbox)) = owner {
        (message.account, message.mailbox) = (Some(account), Some(mailbox));
    }
}
