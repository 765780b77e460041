//! Words of mail: bytes in, values out; no disk, network or clock.

pub mod mailbox;
pub mod uids;
