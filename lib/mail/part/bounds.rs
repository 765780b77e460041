//! How far a walk goes: parts, depth, and bytes that are decoded or read a second time.

use super::said::Said;
use super::walk::Walk;
use crate::mail::boundary;

impl Walk<'_, '_> {
    /// False once there are as many parts as are allowed, which is said.
    pub(super) fn has_room(&mut self) -> bool {
        if self.tree.parts.len() >= self.limits.parts {
            self.tree.full = true;
            self.cut(format!("more than {} parts", self.limits.parts));
        }
        !self.tree.full
    }

    /// True where nothing more may be opened.
    pub(super) fn is_deep(&self, depth: usize) -> bool {
        depth + self.levels.len() > self.limits.depth
    }

    /// Notes that a head was not read to its end, which lies at `end`. Where its rest, or the field that was cut in two,
    /// speaks of the body, what the body is was not learnt, and something may be missing.
    pub(super) fn cut_head(&mut self, said: &mut Said, end: usize) {
        let why = format!("head longer than {} bytes", self.limits.head);
        let kept = &self.bytes[said.head.clone()];
        let next = self.bytes.get(said.head.end);
        let is_whole = kept.ends_with(b"\n") && !matches!(next, Some(b' ' | b'\t'));
        let rest = if is_whole { said.head.end } else { said.head.start + last_field(kept) };
        if boundary::speaks_of_body(&self.bytes[rest..end.max(said.head.end)]) {
            self.cut(why.clone());
        }
        said.notes.push(why);
    }

    pub(super) fn cut_deep(&mut self) {
        self.cut(format!("nested deeper than {}", self.limits.depth));
    }

    /// How deep a part of the innermost level lies.
    pub(super) fn depth(&self, depth: usize) -> usize {
        depth + self.levels.len() - 1
    }

    /// Takes `bytes` from what may still be decoded; false, and said, if there is not so much.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                true
            }
            None => {
                self.cut("too much to decode or to read a second time".to_string());
                false
            }
        }
    }

    pub(super) fn cut(&mut self, why: String) {
        self.tree.cut.get_or_insert(why);
    }
}

/// Where the last field of a head begins, with all its lines.
fn last_field(head: &[u8]) -> usize {
    let begins = |at: &usize| !matches!(head.get(at + 1), None | Some(b' ' | b'\t'));
    memchr::memrchr_iter(b'\n', head).find(begins).map_or(0, |at| at + 1)
}
