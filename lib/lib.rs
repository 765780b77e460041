//! mailloop: a personal mail-processing toolkit. This header is the map.
//!
//! Small programs chain like shell tools: inject, fetch, dissect, act. Each is a job in `job/`; `mail-loop` runs the same
//! jobs again and again in one process, and a demo and the tests run them too.
//!
//! # The floors
//!
//! A file may use anything on a lower floor, nothing on a higher one. Everything is synchronous; threads are std's.
//!
//! ```text
//! floor 4  bin/mail-*.rs       command line → options → job → status
//! floor 3  job/                the story of one program each; job/loop/ puts the others together
//! floor 2  store/ net/ secret  places: the only floor that touches mail on disk or the network
//! floor 1  mail/ record/ config/ rules   words: bytes in, values out; no disk, network or clock
//! floor 0  error report durable retry process watch lines stop cli   ground: knows nothing of mail
//! beside   sandbox/            the embedded server; uses floors 0 to 2, used by bin, demo and tests alone
//! ```
//!
//! Pieces of floor 2 do not know each other: the spool knows no SMTP, the IMAP client no Maildir. A job introduces them.
//!
//! | room | holds |
//! |---|---|
//! | [`error`] | the one error; its kind decides retry and exit status |
//! | [`report`] | records on stdout, words on stderr, what a stranger's name may not do to a terminal |
//! | [`durable`] | the few disk moves that survive a power cut, each a numbered step at which a test can stop the process |
//! | [`retry`] | when to try again, as plain functions |
//! | [`process`] | run an argv, never a shell line, with a time limit |
//! | [`watch`] | a directory changed: a hint to look |
//! | [`lines`] | lines from a pipe as they come, and when there are none |
//! | [`stop`] | INT, TERM, HUP, USR1: flags that wake every wait; threads that can be ended alone |
//! | [`cli`] | options that mean the same everywhere; how a program ends |
//! | [`mail`] | address, compose, parts, transfer encodings, safe names, content sniffing, mailbox names, UID sets; who is proven to have sent it |
//! | [`record`] | the JSON records, read and write |
//! | [`config`] | the configuration file, and how a server is reached |
//! | [`rules`] | which rule acts on a file, why, and with which command |
//! | [`store`] | Maildir, cursor, journal, ledger, spool, proofs, heartbeat; each file's header is its table of states |
//! | [`net`] | a line with limits, TLS, SMTP submission, IMAP with literals straight to a sink, TXT records |
//! | [`secret`] | passwords: where they come from; never shown |
//! | [`job`] | inject, queue, fetch, dissect, act, loop |
//!
//! # The way of each job
//!
//! - **inject**: compose or read → everything that can fail before sending has failed → SMTP, an outcome for each
//!   recipient; or one rename into the spool.
//! - **queue**: what is due → marked as being tried → SMTP → settled; a death in between is `unknown`.
//! - **fetch**: list UIDs → octets stream into `tmp/` → sync the group → journal its names → rename → sync the directory →
//!   the cursor takes the UIDs → print.
//! - **dissect**: parts → the wanted ones decoded aside → sync the group → rename, never over another → journal → print.
//! - **act**: file and message → the first rule that matches (who sent it is proven, where it asks) → claim → print or run → settle.
//! - **loop**: a thread an account (and one a further mailbox) fetches and waits for news, or a thread watches a directory;
//!   bounded queues hand on what is new; a thread a loop dissects, another acts, and each also looks at whatever is pending.
//!
//! The directories are the queues: a stage asks its own memory what is not finished (cursor, journal, ledger), so it does
//! not matter where an earlier run died.
//!
//! # Words
//!
//! **message** exact bytes · **envelope** SMTP sender and recipients · **recipient** one envelope address with its own fate ·
//! **address** `local@domain` · **mailbox** a named place with messages · **part** one node of the MIME tree · **account** a
//! login somewhere · **spool / queue** the directory / what in it is unsettled · **submit** hand to SMTP · **deliver** put
//! into a mailbox · **outcome** done, later, never, unknown · **cursor** which messages of a mailbox were taken ·
//! **journal** what dissect finished · **ledger: claim, settle** once-only memory of act · **note** something odd that did
//! not stop us.

pub mod cli;
pub mod config;
pub mod durable;
pub mod error;
pub mod job;
pub mod lines;
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
