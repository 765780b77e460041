//! The network: dialling with a limit on every wait, TLS, and the protocols on top.
//!
//! `dial` reaches a server, `wire` is the line itself, `tls` decides whom to trust, `smtp` and `imap` speak on it, `hidden` keeps secrets out of
//! what is shown; `dns` asks for the keys of signatures. They know nothing of disk layouts; a job introduces them to
//! the stores.

mod dial;
#[cfg(feature = "dkim")]
pub mod dns;
mod hidden;
pub mod imap;
mod scram;
pub mod smtp;
mod tls;
mod wire;

pub use dial::dial;
pub use wire::Wire;
