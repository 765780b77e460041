//! The story of one program each: options in, outcomes and records out. A job never sees argv.

pub mod act;
pub mod dissect;
pub mod fetch;
pub mod inject;
pub mod r#loop;
pub mod message;
pub mod queue;
pub mod settings;
pub mod submit;
