//! mailloop.
pub mod cli;
pub mod config;
pub mod durable;
pub mod error;
pub mod job;
pub mod mail;
pub mod net;
pub mod process;
pub mod record;
pub mod report;
pub mod retry;
pub mod rules;
pub mod sandbox;
pub mod secret;
pub mod stop;
pub mod store;
pub mod watch;
