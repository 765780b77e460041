use super::*;

const EXAMPLE: &str = r#"
[account.school]
address  = "me@by.example"
smtp     = "smtps://smtp.by.example"
imap     = "imaps://imap.by.example"
user     = "me"
password_command = ["pass", "show", "mail/school"]
maildir  = "~/Mail/school"
mailboxes = ["INBOX"]
start    = 2026-11-21T00:00:00Z

[[rule]]
name = "print"
type = "application/pdf"
from = ["*@by.example"]
run  = ["lp", "-d", "office", "-t", "{name}", "--", "{path}"]
max_per_hour = 30

[loop.homework]
account = "school"
files   = "~/in"
rules   = ["print"]
every   = "5m"
act     = "print"
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("config.toml"), Some(Path::new("/home/me")))
}

#[test]
fn the_example_of_the_manual() {
    let config = parse(EXAMPLE).unwrap();
    let account = config.account("school").unwrap();
    assert_eq!(account.maildir.as_deref(), Some(Path::new("/home/me/Mail/school")));
    assert_eq!(account.start.unwrap().to_string(), "2026-11-21T00:00:00Z");
    assert_eq!(config.loops["homework"].every, Some(Duration::from_secs(300)));
    assert_eq!(config.loops["homework"].act, Act::Print);
    assert_eq!(account.imap.as_ref().unwrap().port, 993);
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let error = parse("[account.x]\nadress = \"a@b\"\n").unwrap_err();
    assert_eq!(error.status(), 78);
    assert!(error.to_string().contains("line 2, column 1"), "{error}");
    assert!(error.to_string().contains("adress"), "{error}");
}

#[test]
fn a_wrong_meaning_is_named_with_its_place() {
    let error = parse("\n[loop.a]\naccount = \"x\"\nfiles = \"f\"\n").unwrap_err();
    assert!(error.to_string().contains("line 2, column 7: loop a: there is no account \"x\""), "{error}");
    let error = parse("[account.x]\nimap = \"smtps://x\"\n").unwrap_err();
    assert!(error.to_string().contains("line 1, column 10: account x: imap wants"), "{error}");
}

#[test]
fn a_password_is_never_shown() {
    let config = parse("[account.x]\npassword = \"hunter2\"\n").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    for text in [
        "[account.x]\npassword = \"hunter2\n",
        "[account.x]\npassword = [\"hunter2\"]\n",
        "[account.x]\npassword_command = \"echo hunter2\"\n",
        "[account.x]\nimap = \"imaps://me:hunter2@x\"\n",
        "[account.x]\nimap = \"imaps//me:hunter2@x\"\n",
        "[account.x]\npasword = \"hunter2\"\n",
        "[account.x]\npassword = \"hunter2\" x\n",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!error.to_string().contains("hunter2") && error.to_string().contains("line 2"), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn urls() {
    let url = |text: &str| text.parse::<Server>();
    assert_eq!(url("imap://127.0.0.1:1143").unwrap().tls(None), Tls::None);
    assert_eq!(url("imap://[::1]").unwrap().tls(None), Tls::None);
    assert_eq!(url("imap://localhost").unwrap().tls(None), Tls::None);
    assert_eq!(url("imap://mail.example").unwrap().tls(None), Tls::StartTls);
    assert_eq!(url("smtp://127.0.0.1").unwrap().tls(Some(Tls::StartTls)), Tls::StartTls);
    assert_eq!(url("smtp://mail.example").unwrap().port, 587);
    assert_eq!(url("smtps://mail.example").unwrap().port, 465);
    assert_eq!(url("imaps://[::1]:9993").unwrap().to_string(), "imaps://[::1]:9993");
    for wrong in [
        "http://x",
        "imaps://",
        "imaps://u:p@x",
        "imaps://x:0",
        "imaps://x:70000",
        "imaps://x/y",
        "x",
        "imaps://a b",
        "imaps://x\r\ny",
    ] {
        assert!(url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn who_proves_a_sender() {
    let rule = "[[rule]]\nname=\"p\"\nauthenticated = true\nrun=[\"lp\"]\n";
    let auth = parse(&format!("{rule}[auth]\ntrusted = [\"mx\"]\nresolver = \"::1\"\ntimeout = \"2s\"\n"))
        .unwrap()
        .auth;
    assert_eq!((auth.dkim, auth.resolver), (crate::mail::auth::HAS_DKIM, "[::1]:53".parse().ok()));
    assert_eq!(
        parse("[auth]\nresolver = \"127.0.0.1:5\"").unwrap().auth.resolver,
        "127.0.0.1:5".parse().ok()
    );
    assert_eq!(parse(rule).is_ok(), crate::mail::auth::HAS_DKIM);
    for (text, place) in [
        (format!("[auth]\ndkim = false\n\n{rule}"), "line 4, column 1: rule \"p\": authenticated"),
        ("[auth]\nresolver = \"dns.example\"\n".into(), "line 2, column 12: resolver is no address"),
        ("[auth]\nsigned = true\n".into(), "line 2, column 1: unknown field"),
        ("\n[auth]\ntimeout = \"0s\"\n".into(), "line 2, column 1: auth: timeout"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.status() == 78 && error.to_string().contains(place), "{error}");
    }
}
