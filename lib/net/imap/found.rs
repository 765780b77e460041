//! What a SEARCH found: `SEARCH 2 5` (RFC 3501), or `ESEARCH (TAG "a3") UID ALL 2:5` (RFC 4731, RFC 9051 section 7.3.4).

use super::tap::invalid;
use crate::mail::uids::Uids;

/// No mailbox holds more; a range that says so costs four octets for each.
const MOST: u64 = 10_000_000;

/// Takes in one of these responses, given in upper case and without `* `.
pub(super) fn take(text: &str, found: &mut Vec<u32>) -> std::io::Result<()> {
    let nonsense = || invalid("the server's answer to SEARCH makes no sense");
    let mut words = text.split_ascii_whitespace();
    if words.next() == Some("SEARCH") {
        // QUIRK: `(MODSEQ 17)` at the end, which nobody asked for.
        for word in words.take_while(|word| !word.starts_with('(')) {
            found.push(word.parse().map_err(|_| nonsense())?);
        }
    } else if let Some(all) = words.by_ref().skip_while(|word| *word != "ALL").nth(1) {
        if !text.split_ascii_whitespace().any(|word| word == "UID") {
            return Err(invalid("the server's answer to SEARCH holds no UIDs"));
        }
        let uids: Uids = all.parse().map_err(|_| nonsense())?;
        if uids.len() + found.len() as u64 > MOST {
            return Err(invalid("the server says that it found more than 10 million messages"));
        }
        found.extend(uids.iter());
    }
    match found.len() as u64 > MOST {
        true => Err(invalid("the server says that it found more than 10 million messages")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_answer() {
        for (text, wanted) in [
            ("SEARCH", Some(vec![])),
            ("SEARCH 5 2 (MODSEQ 9)", Some(vec![5, 2])),
            ("SEARCH 5 X", None),
            ("ESEARCH (TAG \"A3\") UID", Some(vec![])),
            ("ESEARCH (TAG \"A3\") UID COUNT 3 ALL 1:2,7 MODSEQ 8", Some(vec![1, 2, 7])),
            ("ESEARCH UID ALL 4", Some(vec![4])),
            ("ESEARCH (TAG \"A3\") ALL 1", None),
            ("ESEARCH (TAG \"A3\") UID ALL *", None),
            ("ESEARCH (TAG \"A3\") UID ALL 1:4294967295", None),
        ] {
            let mut found = Vec::new();
            let done = take(text, &mut found);
            assert_eq!(done.ok().map(|()| found), wanted, "{text}");
        }
    }
}
