//! UIDs that the server should have and a search left out: gone, or not shown just then. They are looked for a few
//! more times, ever more rarely, before they count as gone.

use crate::mail::uids::Uids;

/// So many seconds after it was left out for the first, second, … time a UID is looked for again; one that is left out
/// once more after the last of them is gone.
const PAUSES: [u64; 3] = [600, 2 * 3600, 24 * 3600];

/// Some that were left out by the same search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub uids: Uids,
    /// How often searches left them out when they were due.
    pub times: u8,
    /// When that was last, in seconds since 1970.
    pub at: i64,
}

impl Missing {
    /// True if they are to be looked for now.
    pub fn is_due(&self, now: i64) -> bool {
        let pause = PAUSES.get(usize::from(self.times).saturating_sub(1)).copied().unwrap_or(0);
        // A clock that went back must not keep them for ever.
        now.abs_diff(self.at) >= pause
    }

    /// Looked for more than once already, and not due: a search need not begin with them.
    pub fn rests(&self, now: i64) -> bool {
        self.times > 1 && !self.is_due(now)
    }
}

/// What a search says of those that it left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Left out often enough, over a long time.
    pub gone: Uids,
    /// To be remembered as missing, or as missing once more.
    pub missing: Vec<Missing>,
    /// They were missing and are there again.
    pub back: Uids,
}

/// Judges what a search listed and left out, `known` being what was missing before. What lies above `last`, the last
/// message, is never gone: it may be still to come.
pub(super) fn judge(known: &[Missing], listed: &Uids, left_out: &Uids, last: u32, now: i64) -> Verdict {
    let above = Uids::from_range(last.saturating_add(1), u32::MAX);
    let mut verdict = Verdict::default();
    let mut new = left_out.clone();
    for group in known {
        new = new.without(&group.uids);
        verdict.back.extend(&group.uids.common(listed));
        let again = group.uids.common(left_out);
        if again.is_empty() || !group.is_due(now) {
            continue;
        }
        match usize::from(group.times) < PAUSES.len() {
            true => verdict.missing.push(Missing { uids: again, times: group.times + 1, at: now }),
            false => {
                verdict.gone.extend(&again.without(&above));
                let uids = again.common(&above);
                if !uids.is_empty() {
                    verdict.missing.push(Missing { uids, times: group.times, at: now });
                }
            }
        }
    }
    if !new.is_empty() {
        verdict.missing.push(Missing { uids: new, times: 1, at: now });
    }
    verdict
}

/// Takes these out of all groups.
pub(super) fn forget(groups: &mut Vec<Missing>, uids: &Uids) {
    for group in groups.iter_mut() {
        group.uids = group.uids.without(uids);
    }
    groups.retain(|group| !group.uids.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Uids {
        text.parse().unwrap()
    }

    #[test]
    fn gone_after_four_times_over_a_day() {
        let (mut groups, mut now, mut looks) = (Vec::new(), 1_000_000, 0);
        loop {
            let verdict = judge(&groups, &set("1,9"), &set("2:8"), 9, now);
            if !verdict.gone.is_empty() {
                assert_eq!((verdict.gone, verdict.missing), (set("2:8"), Vec::new()));
                break;
            }
            looks += 1;
            groups = verdict.missing;
            assert_eq!((groups.len(), groups[0].times), (1, looks));
            // Looks in between count for nothing.
            assert_eq!(judge(&groups, &set("1,9"), &set("2:8"), 9, now + 60), Verdict::default());
            assert_eq!(groups[0].rests(now + 60), looks > 1);
            while !groups[0].is_due(now) {
                now += 60;
            }
            assert!(!groups[0].rests(now));
        }
        assert_eq!(looks, 3);
        assert!(now >= 1_000_000 + 26 * 3600);
    }

    #[test]
    fn what_may_still_come_is_never_gone() {
        let groups = [Missing { uids: set("2:8"), times: 3, at: 0 }];
        let verdict = judge(&groups, &set("5"), &set("2:4,6:8"), 5, 90_000);
        assert_eq!(verdict.gone, set("2:4"));
        assert_eq!(verdict.missing, [Missing { uids: set("6:8"), times: 3, at: 90_000 }]);
    }

    #[test]
    fn who_comes_back_begins_anew() {
        let groups = [Missing { uids: set("2:8"), times: 3, at: 0 }];
        let verdict = judge(&groups, &set("1,4"), &set("2:3,5:12"), 20, 90_000);
        assert_eq!((verdict.back, verdict.gone), (set("4"), set("2:3,5:8")));
        assert_eq!(verdict.missing, [Missing { uids: set("9:12"), times: 1, at: 90_000 }]);
        let mut groups = groups.to_vec();
        forget(&mut groups, &set("4"));
        assert_eq!(groups[0].uids, set("2:3,5:8"));
        forget(&mut groups, &set("1:100"));
        assert!(groups.is_empty());
    }
}
