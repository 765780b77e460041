//! A set of IMAP UIDs, as ranges: `1:5,7` (sequence-set, RFC 9051 section 9).

use std::fmt;
use std::str::FromStr;

/// Ascending ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uids(Vec<(u32, u32)>);

/// So many ranges are added to another set one by one.
const FEW: usize = 8;

impl Uids {
    /// All from `first` to `last`, both included; none if they are the wrong way round.
    pub fn from_range(first: u32, last: u32) -> Uids {
        let mut set = Uids::default();
        set.insert_range(first, last);
        set
    }

    /// Adds one.
    pub fn insert(&mut self, uid: u32) {
        self.insert_range(uid, uid);
    }

    /// Adds all from `first` to `last`, both included; nothing if they are the wrong way round.
    pub fn insert_range(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        // Those that end before `first - 1` stay, those that begin after `last + 1` stay; what is between merges.
        let from = self.0.partition_point(|(_, end)| *end < first.saturating_sub(1));
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1)).max(from);
        let merged =
            self.0[from..to].iter().fold((first, last), |(low, high), (a, b)| (low.min(*a), high.max(*b)));
        self.0.splice(from..to, [merged]);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Uids) {
        if other.0.len() <= FEW {
            return other.0.iter().for_each(|(first, last)| self.insert_range(*first, *last));
        }
        // One by one, many would each move what is behind them.
        let (mut ours, mut theirs) =
            (std::mem::take(&mut self.0).into_iter().peekable(), other.0.iter().copied().peekable());
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(one), Some(other)) if one <= other => ours.next(),
                (_, Some(_)) => theirs.next(),
                _ => ours.next(),
            };
            let Some((first, last)) = next else { return };
            match self.0.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => self.0.push((first, last)),
            }
        }
    }

    /// True if it is in the set.
    pub fn contains(&self, uid: u32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < uid);
        self.0.get(at).is_some_and(|(start, _)| *start <= uid)
    }

    /// The lowest UID (from 1) that is not in the set.
    pub fn first_gap(&self) -> u32 {
        match self.0.first() {
            Some((1, end)) => end.saturating_add(1),
            _ => 1,
        }
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of it is not in another set.
    pub fn without(&self, other: &Uids) -> Uids {
        let mut rest = Uids::default();
        for (first, last) in &self.0 {
            let mut next = Some(*first);
            let from = other.0.partition_point(|(_, end)| end < first);
            for (start, end) in other.0[from..].iter().take_while(|(start, _)| start <= last) {
                if let (Some(next), Some(before)) = (next, start.checked_sub(1)) {
                    rest.insert_range(next, before);
                }
                next = end.checked_add(1);
            }
            if let Some(next) = next {
                rest.insert_range(next, *last);
            }
        }
        rest
    }

    /// What is in both.
    pub fn common(&self, other: &Uids) -> Uids {
        self.without(&self.without(other))
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many are in it.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }
}

impl Uids {
    /// The same in pieces of at most `most` UIDs each, none of which takes more than `length` octets to write (at least
    /// one range of two long numbers, 21).
    pub fn pieces(&self, length: usize, most: u64) -> Vec<Uids> {
        let (mut pieces, mut piece, mut room, mut left) = (Vec::new(), Uids::default(), length, most.max(1));
        for (first, last) in &self.0 {
            let mut from = *first;
            loop {
                let end = u64::from(from).saturating_add(left - 1).min(u64::from(*last)) as u32;
                let costs = format!("{from}:{end},").len();
                if costs > room && !piece.is_empty() {
                    pieces.push(std::mem::take(&mut piece));
                    (room, left) = (length, most.max(1));
                    continue;
                }
                piece.0.push((from, end));
                (room, left) = (room.saturating_sub(costs), left - (u64::from(end - from) + 1));
                if left == 0 {
                    pieces.push(std::mem::take(&mut piece));
                    (room, left) = (length, most.max(1));
                }
                if end == *last {
                    break;
                }
                from = end + 1;
            }
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

impl FromIterator<u32> for Uids {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        let mut set = Uids::default();
        uids.into_iter().for_each(|uid| set.insert(uid));
        set
    }
}

impl fmt::Display for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}:{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Uids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = Uids::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once(':').unwrap_or((range, range));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) if first <= last => set.insert_range(first, last),
                _ => return Err(format!("{range:?} is no range of UIDs")),
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(ranges in prop::collection::vec((1u32..60, 0u32..8), 0..20)) {
            let (mut set, mut plain) = (Uids::default(), std::collections::BTreeSet::new());
            for (first, more) in ranges {
                set.insert_range(first, first + more);
                plain.extend(first..=first + more);
            }
            prop_assert_eq!(set.len(), plain.len() as u64);
            for uid in 0..80 {
                prop_assert_eq!(set.contains(uid), plain.contains(&uid));
            }
            prop_assert_eq!(&set.to_string().parse::<Uids>().unwrap(), &set);
            prop_assert!(set.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert_eq!(set.first_gap(), (1..).find(|uid| !plain.contains(uid)).unwrap());
        }
    }

    proptest! {
        #[test]
        fn differs_and_overlaps_as_a_set(one in prop::collection::vec(0u32..40, 0..30), two in prop::collection::vec(0u32..40, 0..30)) {
            let top = |n: u32| u32::MAX - n;
            for change in [|n: u32| n + 1, top] {
                let (a, b): (Vec<u32>, Vec<u32>) = (one.iter().map(|n| change(*n)).collect(), two.iter().map(|n| change(*n)).collect());
                let (first, second): (Uids, Uids) = (a.iter().copied().collect(), b.iter().copied().collect());
                let only: Uids = a.iter().copied().filter(|uid| !b.contains(uid)).collect();
                let both: Uids = a.iter().copied().filter(|uid| b.contains(uid)).collect();
                prop_assert_eq!(first.without(&second), only);
                prop_assert_eq!(first.common(&second), both);
                let mut all = first.clone();
                all.extend(&second);
                let any: Uids = a.iter().chain(&b).copied().collect();
                prop_assert_eq!(all, any);
            }
        }
    }

    #[test]
    fn pieces_fit_and_are_the_whole() {
        let sparse: Uids = (1..40_000u32).step_by(2).map(|uid| uid * 100_000).collect();
        let dense: Uids = "5:50004,4294967295".parse().unwrap();
        for (uids, least) in [(sparse, 3), (dense, 3), (Uids::default(), 0)] {
            let pieces = uids.pieces(7000, 20_000);
            let mut again = Uids::default();
            for piece in &pieces {
                assert!(piece.to_string().len() <= 7000 && (1..=20_000).contains(&piece.len()));
                again.extend(piece);
            }
            assert!(pieces.len() >= least, "{}", pieces.len());
            assert_eq!((again, pieces.iter().map(Uids::len).sum::<u64>()), (uids.clone(), uids.len()));
        }
    }

    #[test]
    fn the_highest_uid() {
        let mut set: Uids = "1:4294967294".parse().unwrap();
        set.insert(u32::MAX);
        assert_eq!(set.to_string(), "1:4294967295");
        assert_eq!(set.first_gap(), u32::MAX);
    }
}
