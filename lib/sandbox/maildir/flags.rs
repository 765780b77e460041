//! The five system flags as a Maildir keeps them: letters after `:2,` in the file's name.

/// A set of system flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

const TABLE: [(Flags, char, &str); 5] = [
    (Flags::DRAFT, 'D', "\\Draft"),
    (Flags::FLAGGED, 'F', "\\Flagged"),
    (Flags::ANSWERED, 'R', "\\Answered"),
    (Flags::SEEN, 'S', "\\Seen"),
    (Flags::DELETED, 'T', "\\Deleted"),
];

impl Flags {
    pub const DRAFT: Flags = Flags(1);
    pub const FLAGGED: Flags = Flags(2);
    pub const ANSWERED: Flags = Flags(4);
    pub const SEEN: Flags = Flags(8);
    pub const DELETED: Flags = Flags(16);

    /// Reads the part of a file name after the colon; letters that are not ours are passed over.
    pub fn from_info(info: &str) -> Flags {
        let letters = info.strip_prefix("2,").unwrap_or("");
        TABLE.iter().filter(|(_, letter, _)| letters.contains(*letter)).fold(Flags(0), |all, f| all.with(f.0))
    }

    /// The part of a file name after the colon.
    pub fn to_info(self) -> String {
        let letters = TABLE.iter().filter(|(flag, _, _)| self.has(*flag)).map(|(_, letter, _)| *letter);
        "2,".chars().chain(letters).collect()
    }

    /// The flag of that IMAP name, in any case.
    pub fn named(name: &str) -> Option<Flags> {
        TABLE.iter().find(|(_, _, known)| known.eq_ignore_ascii_case(name)).map(|(flag, _, _)| *flag)
    }

    /// The IMAP names.
    pub fn names(self) -> impl Iterator<Item = &'static str> + use<> {
        TABLE.iter().filter(move |(flag, _, _)| self.has(*flag)).map(|(_, _, name)| *name)
    }

    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_sorted_and_read_back() {
        let flags = Flags::SEEN.with(Flags::DRAFT).with(Flags::named("\\FLAGGED").unwrap());
        assert_eq!(flags.to_info(), "2,DFS");
        assert_eq!(Flags::from_info("2,DFSab"), flags);
        assert_eq!(Flags::from_info("1,S"), Flags::default());
    }
}
