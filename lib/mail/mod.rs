//! Words of mail: bytes in, values out; no disk, network or clock.

pub mod address;
pub mod auth;
mod boundary;
pub mod class;
pub mod cms;
pub mod compose;
pub mod convert;
pub mod decode;
pub mod dsn;
pub mod header;
pub mod lines;
pub mod mailbox;
pub mod mbox;
pub mod name;
pub mod notice;
pub mod outgoing;
pub mod param;
pub mod part;
pub mod pdf;
pub mod sniff;
pub mod summary;
pub mod tnef;
pub mod uids;
pub mod words;
