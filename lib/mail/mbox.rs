//! mbox files: many messages one after the other, each behind a `From ` line (RFC 4155).

use std::ops::Range;

/// The messages of an mbox file, each with its `From ` line; `None` if `bytes` is no mbox or holds one message only,
/// which then is best read as it stands.
///
/// A message begins where an empty line is followed by a `From ` line with a time and a year in it; a text that merely
/// has a sentence with `From ` in it stays whole. QUIRK: what `mboxrd` quoted (`>From `) stays quoted.
pub fn messages(bytes: &[u8]) -> Option<impl Iterator<Item = Range<usize>>> {
    let mut starts = starts(bytes);
    let (first, second) = (starts.next().filter(|first| *first == 0)?, starts.next()?);
    let mut start = first;
    let ends = std::iter::once(second).chain(starts).chain(std::iter::once(bytes.len()));
    Some(ends.map(move |end| std::mem::replace(&mut start, end)..end))
}

fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let first = is_from_line(bytes).then_some(0);
    let others = first.map(|_| memchr::memmem::find_iter(bytes, b"\nFrom "));
    let is_after_blank = |at: usize| {
        let before = &bytes[..at];
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        before.is_empty() || before.ends_with(b"\n")
    };
    first.into_iter().chain(
        others
            .into_iter()
            .flatten()
            .filter(move |at| is_after_blank(*at) && is_from_line(&bytes[at + 1..]))
            .map(|at| at + 1),
    )
}

/// `From sender Sat Nov 21 10:00:00 2026`, the zone and what else some write before or after the year left open.
fn is_from_line(text: &[u8]) -> bool {
    let near = &text[..text.len().min(300)];
    let line = memchr::memchr(b'\n', near).map_or(near, |end| &near[..end]);
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    let is_time = |word: &[u8]| matches!(word, [a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()));
    let is_year = |word: &[u8]| word.len() == 4 && word.iter().all(u8::is_ascii_digit);
    words.any(is_time) && words.any(is_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<Vec<&str>> {
        Some(messages(text.as_bytes())?.map(|range| &text[range]).collect())
    }

    #[test]
    fn messages_are_told_from_sentences() {
        let one = "From a@b Sat Nov 21 10:00:00 2026\nSubject: 1\n\nhi\n\nFrom here to there\n\n";
        let two = "From - Sat Nov 21 10:00 +0100 2026\r\nSubject: 2\r\n\r\nhi\r\n\r\n";
        assert_eq!(split(one), None);
        assert_eq!(split(&format!("x\n\n{one}{one}")), None);
        assert_eq!(split(&format!("{one}{two}{one}")), Some(vec![one, two, one]));
        assert_eq!(split(""), None);
    }
}
