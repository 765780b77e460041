//! Every test that runs the programs, in one binary (it links once).
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod act;
mod act_ledger;
mod act_rules;
#[cfg(feature = "dkim")]
mod auth;
mod bench;
mod cyrus;
mod demo;
mod dissect;
mod durability;
mod echo;
mod fetch;
mod hole;
mod inject;
mod inject_drill;
mod liar;
mod looping;
mod manual;
mod pipeline;
mod progress;
mod queue;
mod queue_relay;
mod readme;
mod real;
mod recipes;
mod sandbox;
mod sendmail;
mod sink;
mod transcript;
