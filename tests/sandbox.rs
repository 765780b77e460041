//! mail-sandbox: spoken to byte by byte, used by real clients, killed and started again.
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod clients;
mod imap;
mod server;
mod smtp;
mod talk;
