//! What a server shall report of a message (RFC 3461): when, and how much of the message comes back.
//!
//! Pure. Both values are checked when they are read, so they can stand in an SMTP command as they are.

use std::fmt;
use std::str::FromStr;

/// The wishes of one message; nothing is asked for by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// When a report is wanted.
    pub notify: Option<Notify>,
    /// How much of the message a report shall hold.
    pub ret: Option<Ret>,
}

/// When a report is wanted (RFC 3461 section 4.1); none of the three is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    success: bool,
    failure: bool,
    delay: bool,
}

impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Notify, String> {
        let mut notify = Notify::default();
        if text.eq_ignore_ascii_case("never") {
            return Ok(notify);
        }
        for word in text.split(',') {
            match word.trim().to_ascii_lowercase().as_str() {
                "success" => notify.success = true,
                "failure" => notify.failure = true,
                "delay" => notify.delay = true,
                _ => {
                    return Err(format!("{word:?} is none of success, failure, delay; or write never alone"));
                }
            }
        }
        Ok(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> = all.into_iter().filter_map(|(yes, word)| yes.then_some(word)).collect();
        f.write_str(if words.is_empty() { "NEVER".into() } else { words.join(",") }.as_str())
    }
}

/// How much of the message a report holds (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl FromStr for Ret {
    type Err = String;

    fn from_str(text: &str) -> Result<Ret, String> {
        match text.to_ascii_lowercase().as_str() {
            "full" => Ok(Ret::Full),
            "hdrs" | "headers" => Ok(Ret::Headers),
            _ => Err(format!("{text:?} is neither full nor hdrs")),
        }
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Ret::Full { "FULL" } else { "HDRS" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, wanted) in [("never", "NEVER"), ("failure,delay", "FAILURE,DELAY"), ("SUCCESS", "SUCCESS")]
        {
            assert_eq!(text.parse::<Notify>().map(|notify| notify.to_string()), Ok(wanted.into()));
            assert_eq!(wanted.parse::<Notify>().map(|notify| notify.to_string()), Ok(wanted.into()));
        }
        assert_eq!("hdrs".parse::<Ret>().map(|ret| ret.to_string()), Ok("HDRS".into()));
        for text in ["", "never,failure", "failure\r\nRCPT", "all"] {
            assert!(text.parse::<Notify>().is_err() && text.parse::<Ret>().is_err(), "{text:?}");
        }
    }
}
