//! mail-sandbox: spoken to byte by byte, used by real clients, killed and started again.

mod clients;
mod imap;
mod server;
mod smtp;
mod talk;
