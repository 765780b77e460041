//! `mail-loop history`: what was claimed, and what became of it, oldest first.

use crate::error::Result;
use crate::job::settings::Settings;
use crate::report::{Records, printable};
use crate::store::ledger::{Entry, Ledger};

/// Shows the ledger, or its last `last` entries.
pub fn show(settings: &Settings, last: Option<usize>, records: &mut Records<'_>) -> Result<()> {
    if settings.state.is_dir() {
        settings.state()?;
    }
    let Some(mut ledger) = Ledger::open_existing(&settings.state, crate::cli::TIMEOUT)? else {
        return Ok(());
    };
    let entries = ledger.entries()?;
    let from = last.map_or(0, |last| entries.len().saturating_sub(last));
    for entry in &entries[from..] {
        match records.is_json() {
            true => records.json(&record(entry))?,
            false => records.text(line(entry))?,
        }
    }
    records.flush()
}

/// The entry as a JSON object; what is not known is null.
fn record(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "v": 1, "kind": "claim", "number": entry.number, "rule": entry.key.rule, "state": entry.state.word(),
        "claimed": entry.claimed.to_string(), "settled": entry.settled.map(|at| at.to_string()),
        "argv": entry.argv, "exit": entry.exit, "signal": entry.signal, "why": entry.why,
        "path": entry.path.as_ref().map(|path| path.to_string_lossy()),
        "sha256": entry.key.file, "message_sha256": entry.key.message,
    })
}

fn line(entry: &Entry) -> String {
    let why = entry.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
    let words: Vec<&str> = entry.argv.iter().map(String::as_str).collect();
    let command = shlex::try_join(words).unwrap_or_else(|_| entry.argv.join(" "));
    printable(&format!("{} {:8} {}: {}{}", entry.claimed, entry.state.word(), entry.key.rule, command, why))
        .into_owned()
}
