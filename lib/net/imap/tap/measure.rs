//! How much a server may say before it answers: what it says is kept, and an answer has an end.

use std::io;

use super::invalid;

/// So many octets of untagged data may come before the tagged answer, wanted messages left out. The longest legitimate
/// ones are a SEARCH answer with seven million UIDs and a LIST of a hundred thousand mailboxes, some 60 and 20 MB.
const MOST_SAID: u64 = 64 << 20;
/// What keeping a response costs besides its octets.
const KEEPING: u64 = 64;
/// No way to log in takes more turns.
const MOST_QUESTIONS: u32 = 20;

/// What was said since the last tagged answer.
#[derive(Default)]
pub(super) struct Measure {
    said: u64,
    questions: u32,
}

impl Measure {
    /// The command is answered.
    pub fn answered(&mut self) {
        *self = Measure::default();
    }

    /// The server asks to go on (`+`).
    pub fn question(&mut self) -> io::Result<()> {
        self.questions += 1;
        match self.questions > MOST_QUESTIONS {
            true => Err(invalid(&format!("the server asked {MOST_QUESTIONS} times, and never answers"))),
            false => Ok(()),
        }
    }

    /// Octets that are no wanted message.
    pub fn said(&mut self, octets: u64) -> io::Result<()> {
        self.said = self.said.saturating_add(octets);
        match self.said > MOST_SAID {
            true => Err(invalid("the server said more than 64 MiB, and never answers")),
            false => Ok(()),
        }
    }

    /// A response is kept until the command is answered.
    pub fn kept(&mut self) -> io::Result<()> {
        self.said(KEEPING)
    }

    /// A message came that was wanted: however many were asked for, this goes forward.
    pub fn forward(&mut self) {
        self.said = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_any_legal_size_passes_and_one_without_end_does_not() {
        let mut measure = Measure::default();
        for _ in 0..200_000 {
            measure.said(100).unwrap();
            measure.kept().unwrap();
        }
        measure.answered();
        // A million messages with their envelopes.
        for _ in 0..1_000_000 {
            measure.said(300).unwrap();
            measure.forward();
        }
        let all = (0..1_000_000).try_for_each(|_| measure.said(100));
        assert!(all.unwrap_err().to_string().contains("64 MiB"));
        assert!(measure.said(u64::MAX).is_err());
        assert!((0..=MOST_QUESTIONS).try_for_each(|_| measure.question()).is_err());
        measure.answered();
        (0..MOST_QUESTIONS).try_for_each(|_| measure.question()).unwrap();
    }
}
