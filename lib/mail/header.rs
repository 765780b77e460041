//! The head of a message or part: fields as they stand, addresses and dates in them.
//!
//! The only file that names mailparse: it splits fields, reads address lists and dates. It never sees an encoded
//! word (cubic time there, see `words`) and never more than a head's limit.

use mailparse::{MailAddr, SingleInfo};

use super::words;

/// One field, raw: `Name: value` with its folding.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The name as written, without blanks around it.
    pub name: &'a [u8],
    /// The value as written, folded, without the last line end.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// True if this is the field of that name, whatever its case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value for people: unfolded and decoded.
    pub fn text(&self) -> String {
        words::decode(self.value).trim().to_string()
    }

    /// The addresses in it as bare `local@domain`, groups opened, in order.
    pub fn addresses(&self) -> Vec<String> {
        addresses(&words::blank(self.value))
    }

    /// True if its address list has a group (RFC 5322 section 3.4), or anything that could be read as one: a colon or
    /// semicolon outside quotes and comments.
    pub fn has_groups(&self) -> bool {
        let (mut quoted, mut depth, mut escaped) = (false, 0usize, false);
        for byte in words::blank(self.value).bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' if depth == 0 => quoted = !quoted,
                b'(' if !quoted => depth += 1,
                b')' if !quoted => depth = depth.saturating_sub(1),
                b':' | b';' if !quoted && depth == 0 => return true,
                _ => {}
            }
        }
        // What never closes may hide anything.
        quoted || depth > 0
    }
}

/// The fields of a head (the bytes before the empty line), in order. Lines that are no field are left out.
pub fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        loop {
            // QUIRK: a continuation without a field before it, and empty lines in front, are skipped.
            while matches!(rest.first(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
                rest = after_line(rest);
            }
            let (field, next) = mailparse::parse_header(rest).ok()?;
            let (name_len, value_len) = (field.get_key_raw().len(), field.get_value_raw().len());
            let (line, name) = (rest, rest.get(..name_len)?.trim_ascii());
            rest = rest.get(next..)?;
            let Some((b':', value)) = line[name_len..].split_first() else { continue };
            let blanks = value.iter().take_while(|b| **b == b' ').count();
            let value = value.get(blanks..).unwrap_or_default();
            if !name.is_empty() && !name.contains(&b'\n') {
                return Some(Field { name, value: value[..value_len.min(value.len())].trim_ascii_start() });
            }
        }
    })
}

/// The first field of that name.
pub fn find<'a>(head: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(head).find(|field| field.is(name))
}

fn after_line(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(&[], |at| &text[at + 1..])
}

fn addresses(text: &str) -> Vec<String> {
    let Ok(list) = mailparse::addrparse(text) else { return loose_addresses(text) };
    let mut out = Vec::new();
    for entry in list.iter() {
        match entry {
            MailAddr::Single(one) => out.extend(bare(one)),
            MailAddr::Group(group) => out.extend(group.addrs.iter().filter_map(bare)),
        }
    }
    out
}

fn bare(one: &SingleInfo) -> Option<String> {
    let addr: String = one.addr.chars().filter(|c| !c.is_control()).collect();
    let addr = addr.trim();
    addr.contains('@').then(|| addr.to_string())
}

/// QUIRK: a list that breaks the grammar (`Doe, John <j@by.example>` unquoted): everything in it that holds an
/// `@` is an address, so that a rule which asks for exactly one sees too many rather than a wrong one.
fn loose_addresses(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c.is_control() || "<>,;:()[]\"".contains(c))
        .filter(|word| {
            word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        })
        .map(str::to_string)
        .collect()
}

/// A `Date` value as RFC 3339 with the sender's offset; `None` if nothing can be made of it.
pub fn date(value: &[u8]) -> Option<String> {
    let text = words::guess(value).replace(['\r', '\n', '\t'], " ");
    let text = with_seconds(&without_comments(&text));
    // mailparse gives 0 for a text in which it found nothing.
    let seconds = mailparse::dateparse(&text).ok().filter(|seconds| *seconds != 0)?;
    let offset = jiff::tz::Offset::from_seconds(offset_seconds(&text)).ok()?;
    let time = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(offset.to_time_zone());
    Some(time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

fn without_comments(text: &str) -> String {
    let mut depth = 0usize;
    text.chars()
        .filter(|c| {
            depth += usize::from(*c == '(');
            let keep = depth == 0;
            depth = depth.saturating_sub(usize::from(*c == ')'));
            keep
        })
        .collect()
}

/// `time-of-day = hour ":" minute [":" second]`; mailparse wants the seconds.
fn with_seconds(text: &str) -> String {
    let whole = |word: &str| match word.split(':').count() {
        2 => format!("{word}:00"),
        _ => word.to_string(),
    };
    text.split_whitespace().map(whole).collect::<Vec<_>>().join(" ")
}

/// `zone = ("+" / "-") 4DIGIT / obs-zone` (RFC 5322 section 3.3); mailparse gives the instant only.
fn offset_seconds(text: &str) -> i32 {
    let Some(zone) = text.split_whitespace().next_back() else { return 0 };
    if let (Some(sign @ ('+' | '-')), Ok(digits)) = (zone.chars().next(), zone[1..].parse::<i32>()) {
        let digits = digits.clamp(0, 2400);
        let seconds = (digits / 100) * 3600 + (digits % 100) * 60;
        return if sign == '-' { -seconds } else { seconds };
    }
    let hours = match zone.to_ascii_uppercase().as_str() {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => 0,
    };
    hours * 3600
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_do_not_hide_fields() {
        let head = b" stray\nFrom: a@b\nnonsense\n\tfolded\nSubject : x\n\ty\r\nTo:\n";
        let seen: Vec<_> = fields(head).map(|f| (f.name, f.text())).collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[1], (b"Subject".as_slice(), "x\ty".to_string()));
        assert_eq!(seen[2], (b"To".as_slice(), String::new()));
    }

    #[test]
    fn address_lists() {
        let read = |text: &str| Field { name: b"From", value: text.as_bytes() }.addresses();
        assert_eq!(read("A <a@b>, \"x, y@z\" <c@d>"), ["a@b", "c@d"]);
        assert_eq!(read("team: a@b, C <c@d>;"), ["a@b", "c@d"]);
        assert_eq!(read("Doe, John <j@by.example>"), ["j@by.example"]);
        assert_eq!(read("=?utf-8?Q?x,_boss@by.example?= <evil@x>"), ["evil@x"]);
        assert!(read("undisclosed-recipients:;").is_empty());
    }

    #[test]
    fn dates_keep_the_sender_s_offset() {
        let date = |text: &str| date(text.as_bytes());
        assert_eq!(date("Sat, 21 Nov 2026 10:00:00 +0130 (X)").as_deref(), Some("2026-11-21T10:00:00+01:30"));
        assert_eq!(date("21 Nov 2026 10:00 EST").as_deref(), Some("2026-11-21T10:00:00-05:00"));
        assert_eq!(date("Sat, 21 Nov 2026 10:00:00 GMT").as_deref(), Some("2026-11-21T10:00:00+00:00"));
        assert_eq!(date("yesterday"), None);
        assert_eq!(date("1 Jan 4294967295 00:00:00 +0000"), None);
    }
}
