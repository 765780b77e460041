//! mail-loop: fetch, dissect and act, again and again, in one process.

pub mod init;
