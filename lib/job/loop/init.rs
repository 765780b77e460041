//! `mail-loop init`: a first configuration, commented, that shows commands and runs none.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use crate::config::{Config, Server};
use crate::durable::Dir;
use crate::error::{Error, Kind, Result};

/// What is known already; the rest is asked or taken from a preset.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The account's name.
    pub name: Option<String>,
    /// The mail address.
    pub address: Option<String>,
    /// `gmail`, `outlook`, `fastmail` or `generic`; from the address where it is left out.
    pub preset: Option<String>,
    /// Where mail is fetched.
    pub imap: Option<Server>,
    /// Where mail is submitted.
    pub smtp: Option<Server>,
    /// The login name, where it is not the address.
    pub user: Option<String>,
    /// A command that prints the password.
    pub password_command: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// Servers and what people trip over, by provider.
struct Preset {
    name: &'static str,
    domains: &'static [&'static str],
    imap: &'static str,
    smtp: &'static str,
    hint: &'static str,
}

/// The first one is for everybody else.
const PRESETS: &[Preset] = &[
    Preset { name: "generic", domains: &[], imap: "", smtp: "", hint: "" },
    Preset {
        name: "gmail",
        domains: &["gmail.com", "googlemail.com"],
        imap: "imaps://imap.gmail.com",
        smtp: "smtps://smtp.gmail.com",
        hint: "Gmail wants an app password (Google account, Security, 2-step verification); the usual one is refused.",
    },
    Preset {
        name: "outlook",
        domains: &["outlook.com", "hotmail.com", "live.com", "msn.com"],
        imap: "imaps://outlook.office365.com",
        smtp: "smtp://smtp-mail.outlook.com",
        hint: "Outlook takes no passwords: use token_command = [\"…\"] (prints an OAuth token) instead of what follows.",
    },
    Preset {
        name: "fastmail",
        domains: &["fastmail.com", "fastmail.fm"],
        imap: "imaps://imap.fastmail.com",
        smtp: "smtps://smtp.fastmail.com",
        hint: "Fastmail wants an app password (Settings, Privacy & Security, App passwords) with IMAP and SMTP.",
    },
];

/// The names of the presets, for the command line.
pub fn presets() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}

/// Everything that the file says.
struct Answers {
    name: String,
    address: String,
    domain: String,
    imap: Server,
    smtp: Server,
    user: String,
    password: String,
    hint: &'static str,
}

/// Writes the configuration to `file` (0600, durable on return) after asking `input` for what is not known; gives the
/// account's name.
///
/// 73 where the file is there already; 64 where an answer is missing or makes no sense.
pub fn write(
    known: &Known,
    file: &Path,
    now: jiff::Timestamp,
    input: &mut dyn BufRead,
    prompts: &mut dyn Write,
) -> Result<String> {
    if file.symlink_metadata().is_ok() {
        return Err(Error::plain(Kind::CannotCreate, format!("{} is there already", file.display()))
            .hint("edit it, or name another with -c"));
    }
    let answers = gather(known, &mut Asker { input, prompts })?;
    let text = text(&answers, now);
    // What we write must be what we read.
    Config::parse(&text, file, None).map_err(|error| error.with_kind(Kind::Usage))?;
    let parent = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::plain(Kind::Usage, format!("{} is no name for a file", file.display())))?;
    Dir::create(parent, 0o700)?.replace(name, text.as_bytes(), 0o600)?;
    Ok(answers.name)
}

fn gather(known: &Known, asker: &mut Asker<'_>) -> Result<Answers> {
    let address = asker.or_ask(known.address.clone(), "Your mail address", None)?;
    let domain = match address.rsplit_once('@') {
        Some((local, domain))
            if !local.is_empty() && !domain.is_empty() && !address.contains(char::is_whitespace) =>
        {
            domain.to_ascii_lowercase()
        }
        _ => return Err(Error::plain(Kind::Usage, format!("{address:?} is no mail address"))),
    };
    let preset = preset(known.preset.as_deref(), &domain)?;
    let imap =
        asker.server(known.imap.as_ref(), "IMAP server", preset.imap, &format!("imaps://imap.{domain}"))?;
    let smtp =
        asker.server(known.smtp.as_ref(), "SMTP server", preset.smtp, &format!("smtps://smtp.{domain}"))?;
    let name = known.name.clone().unwrap_or_else(|| account_name(&domain));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(Error::plain(Kind::Usage, format!("{name:?} cannot name an account"))
            .hint("use letters, digits, - and _"));
    }
    let password = password(known, &name, asker)?;
    let user = known.user.clone().unwrap_or_else(|| address.clone());
    Ok(Answers { name, address, domain, imap, smtp, user, password, hint: preset.hint })
}

fn preset(asked: Option<&str>, domain: &str) -> Result<&'static Preset> {
    let found = match asked {
        Some(name) => PRESETS.iter().find(|preset| preset.name == name),
        None => PRESETS.iter().find(|preset| preset.domains.contains(&domain)).or(PRESETS.first()),
    };
    found.ok_or_else(|| {
        Error::plain(Kind::Usage, format!("no preset {:?}", asked.unwrap_or_default()))
            .hint(format!("known: {}", presets().join(", ")))
    })
}

fn account_name(domain: &str) -> String {
    let first = domain.split('.').next().unwrap_or_default();
    let name: String = first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "mail".into() } else { name }
}

/// The line of the file that says where the password comes from.
fn password(known: &Known, name: &str, asker: &mut Asker<'_>) -> Result<String> {
    if let Some(file) = &known.password_file {
        // cron and systemd start in other directories.
        let file = std::path::absolute(file).map_err(|why| Error::reading(file, why))?;
        return Ok(format!("password_file = {}", quoted(&file.to_string_lossy())));
    }
    let default = format!("pass show mail/{name}");
    let command =
        asker.or_ask(known.password_command.clone(), "Command that prints the password", Some(&default))?;
    let words = shlex::split(&command).filter(|words| !words.is_empty());
    let words =
        words.ok_or_else(|| Error::plain(Kind::Usage, format!("cannot split {command:?} into words")))?;
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    Ok(format!("password_command = [{}]", words.join(", ")))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

struct Asker<'a> {
    input: &'a mut dyn BufRead,
    prompts: &'a mut dyn Write,
}

impl Asker<'_> {
    fn or_ask(&mut self, known: Option<String>, question: &str, default: Option<&str>) -> Result<String> {
        if let Some(known) = known {
            return Ok(known);
        }
        let shown = default.map_or(String::new(), |default| format!(" [{default}]"));
        let mut line = String::new();
        let asked = write!(self.prompts, "{question}{shown}: ").and_then(|()| self.prompts.flush());
        asked
            .and_then(|()| self.input.read_line(&mut line))
            .map_err(|why| Error::reading("your answer", why))?;
        match (line.trim(), default) {
            ("", Some(default)) => Ok(default.to_string()),
            ("", None) => Err(Error::plain(Kind::Usage, format!("{question}: no answer"))),
            (answer, _) => Ok(answer.to_string()),
        }
    }

    fn server(
        &mut self,
        known: Option<&Server>,
        question: &str,
        preset: &str,
        default: &str,
    ) -> Result<Server> {
        let text = match (known, preset) {
            (Some(server), _) => return Ok(server.clone()),
            (None, "") => self.or_ask(None, question, Some(default))?,
            (None, preset) => preset.to_string(),
        };
        text.parse().map_err(|why| Error::plain(Kind::Usage, why))
    }
}

fn text(answers: &Answers, now: jiff::Timestamp) -> String {
    let Answers { name, address, domain, imap, smtp, user, password, hint } = answers;
    let start = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let (address, user, domain) = (quoted(address), quoted(user), quoted(&format!("*@{domain}")));
    // At a provider for everybody the domain says nothing about who writes.
    let from = if hint.is_empty() { &domain } else { &address };
    let hint = if hint.is_empty() { String::new() } else { format!("# {hint}\n") };
    format!(
        r#"# mailloop's configuration. Unknown keys are errors. `mail-fetch {name}` tries the account.

[account.{name}]
address  = {address}
smtp     = "{smtp}"
imap     = "{imap}"
user     = {user}
{hint}# Words, no shell. Or password_file = "…" (chmod 600), or a systemd credential named {name}.
{password}
maildir  = "~/Mail/{name}"
mailboxes = ["INBOX"]
# Older mail is fetched, but nothing is ever done with it.
start    = {start}

# The first rule that matches a file decides what is done with it.
[[rule]]
name = "print"
type = "application/pdf"          # judged by the file's bytes
from = [{from}]                 # From can be forged: let in only what may be printed
run  = ["lp", "-t", "{{name}}", "--", "{{path}}"]
max_per_hour = 30                 # more than that are held and you are told

[loop.{name}]
account = "{name}"
files   = "~/mailloop/{name}"     # where the PDFs are put
rules   = ["print"]
every   = "5m"                    # and at once when the server says so
act     = "print"                 # shows the commands; "run" runs them, once you trust it
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_with(known: &Known, answers: &str) -> Result<String> {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a/config.toml");
        let mut prompts = Vec::new();
        write(known, &file, "2026-11-21T10:00:00Z".parse().unwrap(), &mut answers.as_bytes(), &mut prompts)?;
        Ok(std::fs::read_to_string(file).unwrap())
    }

    #[test]
    fn a_preset_asks_for_address_and_password_only() {
        let text = try_with(&Known::default(), "me@gmail.com\n\n").unwrap();
        let config = Config::parse(&text, Path::new("x"), None).unwrap();
        let account = config.account("gmail").unwrap();
        assert_eq!(account.imap.as_ref().unwrap().to_string(), "imaps://imap.gmail.com:993");
        assert_eq!(account.password_command.as_deref().unwrap(), ["pass", "show", "mail/gmail"]);
        assert_eq!(account.start.unwrap().to_string(), "2026-11-21T10:00:00Z");
        assert_eq!(config.rule[0].when.from.0, ["me@gmail.com"]);
        assert_eq!(config.rule[0].max_per_hour, Some(30));
        assert_eq!(config.loops["gmail"].act, crate::config::Act::Print);
    }

    #[test]
    fn others_are_asked_for_their_servers() {
        let text = try_with(
            &Known::default(),
            "me@by.example\n\nsmtp://mail.by.example\nsecret-tool lookup x 'a b'\n",
        )
        .unwrap();
        let config = Config::parse(&text, Path::new("x"), None).unwrap();
        let account = config.account("by").unwrap();
        assert_eq!(config.rule[0].when.from.0, ["*@by.example"]);
        assert_eq!(account.imap.as_ref().unwrap().host, "imap.by.example");
        assert_eq!(account.smtp.as_ref().unwrap().port, 587);
        assert_eq!(account.password_command.as_ref().unwrap()[3], "a b");
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(try_with(&Known::default(), "me\n").unwrap_err().status(), 64);
        assert_eq!(try_with(&Known::default(), "").unwrap_err().status(), 64);
        let known = Known { address: Some("a\"]\nx=1@b".into()), ..Known::default() };
        assert_eq!(try_with(&known, "\n\n\n\n").unwrap_err().status(), 64);
    }
}
