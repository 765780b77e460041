//! Every test that runs the programs, in one binary (it links once).
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod act;
mod act_rules;
mod bench;
mod demo;
mod dissect;
mod durability;
mod fetch;
mod inject;
mod inject_drill;
mod liar;
mod looping;
mod pipeline;
mod progress;
mod queue;
mod queue_relay;
mod readme;
mod real;
mod sandbox;
mod sendmail;
mod sink;
mod transcript;
