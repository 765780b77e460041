//! Words of mail: bytes in, values out; no disk, network or clock.

mod boundary;
pub mod decode;
pub mod header;
pub mod mailbox;
pub mod name;
pub mod param;
pub mod part;
pub mod pdf;
pub mod sniff;
pub mod summary;
pub mod uids;
pub mod words;
