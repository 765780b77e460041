//! Where something stands in the text of a configuration: line and column, never the text itself, which may hold a
//! password.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

/// What an error of meaning is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// `[account.NAME]`
    Account(String),
    /// The nth `[[rule]]`, from 0.
    Rule(usize),
    /// `[loop.NAME]`
    Loop(String),
    /// `[auth]`
    Auth,
}

/// Where tables begin.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Tables {
    account: BTreeMap<Spanned<String>, IgnoredAny>,
    rule: Vec<Spanned<IgnoredAny>>,
    #[serde(rename = "loop")]
    loops: BTreeMap<Spanned<String>, IgnoredAny>,
    auth: Option<Spanned<IgnoredAny>>,
}

/// `line 3, column 1: ` of what is to blame; empty if it cannot be found.
pub(super) fn of(text: &str, blame: &Blame) -> String {
    let tables: Tables = toml::from_str(text).unwrap_or_default();
    let named = |tables: &BTreeMap<Spanned<String>, IgnoredAny>, name: &String| {
        tables.keys().find(|key| key.get_ref() == name).map(Spanned::span)
    };
    let span = match blame {
        Blame::Account(name) => named(&tables.account, name),
        Blame::Loop(name) => named(&tables.loops, name),
        Blame::Auth => tables.auth.as_ref().map(Spanned::span),
        Blame::Rule(number) => tables.rule.get(*number).map(Spanned::span),
    };
    span.map_or(String::new(), |span| line_and_column(text, span))
}

/// What the parser says, with its place and without the line it quotes; string values are left out too.
pub(super) fn of_error(text: &str, error: &toml::de::Error) -> String {
    let place = error.span().map_or(String::new(), |span| line_and_column(text, span));
    format!("{place}{}", without_values(error.message()))
}

/// `invalid type: string "hunter2", expected …` is said without the string.
fn without_values(message: &str) -> String {
    for kind in ["invalid type: string ", "invalid value: string "] {
        if let Some(rest) = message.strip_prefix(kind) {
            let tail = rest.rfind(", expected").map_or("", |at| &rest[at..]);
            return format!("a string stands here{tail}");
        }
    }
    message.lines().collect::<Vec<_>>().join("; ")
}

fn line_and_column(text: &str, span: Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: ")
}
