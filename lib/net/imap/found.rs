//! What a SEARCH found: `SEARCH 2 5` (RFC 3501), or `ESEARCH (TAG "a3") UID ALL 2:5` (RFC 4731, RFC 9051 section 7.3.4).

use super::tap::invalid;

/// No mailbox holds more; a range that says so costs four octets for each.
const MOST: u64 = 10_000_000;
/// The numbers begin before this: a tag and some words stand before them.
const LONGEST_START: usize = 200;

/// Takes in one of these responses, given in upper case and without `* `.
pub(super) fn take(text: &str, found: &mut Vec<u32>) -> std::io::Result<()> {
    let nonsense = || invalid("the server's answer to SEARCH makes no sense");
    let mut words = text.split_ascii_whitespace();
    if words.next() == Some("SEARCH") {
        // QUIRK: `(MODSEQ 17)` at the end, which nobody asked for.
        for word in words.take_while(|word| !word.starts_with('(')) {
            found.push(word.parse().map_err(|_| nonsense())?);
            // QUIRK: some servers say 0 for none.
            found.pop_if(|uid| *uid == 0);
        }
    } else if let Some(all) = words.by_ref().skip_while(|word| *word != "ALL").nth(1) {
        if !text.split_ascii_whitespace().any(|word| word == "UID") {
            return Err(invalid("the server's answer to SEARCH holds no UIDs"));
        }
        // Not as a set: one in a perverse order costs the square of its length.
        for range in all.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once(':').unwrap_or((range, range));
            let (first, last): (u32, u32) =
                (first.parse().map_err(|_| nonsense())?, last.parse().map_err(|_| nonsense())?);
            let (first, last) = (first.min(last).max(1), first.max(last));
            if u64::from(last.saturating_sub(first)) + found.len() as u64 >= MOST {
                return Err(too_many());
            }
            found.extend(first..=last);
        }
    }
    match found.len() as u64 > MOST {
        true => Err(too_many()),
        false => Ok(()),
    }
}

/// Cuts what came of such a line so that what is given is a line of its own, and so is what stays with what follows.
/// `None` where it is no such line, or has no place for it.
pub(super) fn cut(line: &mut Vec<u8>) -> Option<Vec<u8>> {
    let start = line.get(..LONGEST_START.min(line.len()))?.to_ascii_uppercase();
    let (start, between) = match start.starts_with(b"* SEARCH ") {
        true => ("* SEARCH ".len(), b' '),
        false if start.starts_with(b"* ESEARCH ") => (memchr::memmem::find(&start, b" ALL ")? + 5, b','),
        false => return None,
    };
    let all = line.get(start..)?;
    // Other results may follow, with commas of their own; a space stands also before `(MODSEQ 17)` and in it.
    let all = if between == b',' { all.split(|byte| *byte == b' ').next()? } else { all };
    let is_place =
        |three: &[u8]| three[0].is_ascii_digit() && three[1] == between && three[2].is_ascii_digit();
    let at = start + 1 + all.windows(3).rposition(is_place)?;
    let rest = [&line[..start], &line[at + 1..]].concat();
    line.truncate(at);
    line.extend_from_slice(b"\r\n");
    Some(std::mem::replace(line, rest))
}

fn too_many() -> std::io::Error {
    invalid("the server says that it found more than 10 million messages")
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
            ("SEARCH 0 7", Some(vec![7])),
            ("ESEARCH UID ALL 0", Some(vec![])),
            ("ESEARCH UID ALL 0:2", Some(vec![1, 2])),
            ("ESEARCH (TAG \"A3\") UID", Some(vec![])),
            ("ESEARCH (TAG \"A3\") UID COUNT 3 ALL 1:2,7 MODSEQ 8", Some(vec![1, 2, 7])),
            ("ESEARCH UID ALL 4", Some(vec![4])),
            // RFC 9051 section 9: the two ends of a range may stand in any order.
            ("ESEARCH UID ALL 9,4:2", Some(vec![9, 2, 3, 4])),
            ("ESEARCH (TAG \"A3\") ALL 1", None),
            ("ESEARCH (TAG \"A3\") UID ALL *", None),
            ("ESEARCH (TAG \"A3\") UID ALL 1:4294967295", None),
        ] {
            let mut found = Vec::new();
            let done = take(text, &mut found);
            assert_eq!(done.ok().map(|()| found), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_cut_says_the_same() {
        for line in [
            "* SEARCH 5 21 7\r\n",
            "* search 5 21 (MODSEQ 92)\r\n",
            "* ESEARCH (TAG \"A3\") UID ALL 5,21:23,7\r\n",
            "* ESEARCH (TAG \"A3\") UID COUNT 7 ALL 5:6,21 MODSEQ 92,1\r\n",
        ] {
            let upper = line.to_ascii_uppercase();
            let mut whole = Vec::new();
            take(&upper[2..], &mut whole).unwrap();
            let mut cuts = 0;
            for end in 0..=upper.len() {
                let (mut left, mut found) = (upper.as_bytes()[..end].to_vec(), Vec::new());
                let mut lines: Vec<Vec<u8>> = cut(&mut left).into_iter().collect();
                cuts += lines.len();
                left.extend_from_slice(&upper.as_bytes()[end..]);
                lines.push(left);
                for line in lines {
                    take(std::str::from_utf8(&line[2..]).unwrap().trim_end(), &mut found).unwrap();
                }
                assert_eq!(found, whole, "{line} cut before {end}");
            }
            assert!(cuts > 3, "{line}");
        }
        for line in ["", "* SEARCH", "* SEARCH 1", "* SEARCH  1", "* LIST 1 2 3", "* ESEARCH UID MIN 1,2"] {
            assert_eq!(cut(&mut line.as_bytes().to_vec()), None, "{line}");
        }
    }
}
