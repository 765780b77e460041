//! Places on disk where mail and its state lie. They know nothing of each other or of the network.

pub mod cursor;
pub mod heartbeat;
pub mod journal;
pub mod ledger;
pub mod maildir;
pub mod proofs;
pub mod spool;
