//! The network: dialling with a limit on every wait, TLS, and the protocols on top.
//!
//! `wire` is the line itself, `tls` decides whom to trust, `smtp` and `imap` speak on it. They know nothing of
//! disk layouts; a job introduces them to the stores.

pub mod imap;
mod scram;
pub mod smtp;
mod tls;
mod wire;

pub use wire::{Wire, dial};
