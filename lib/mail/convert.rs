//! A finished message made fit for lines of 7 bits and at most 998 bytes: parts that need it become quoted-printable.
//!
//! RFC 6152 section 3: who has an 8-bit message for a server without 8BITMIME converts it or returns it. Pure, in bounded
//! memory and two passes: a [`Survey`] reads the message and gives a [`Plan`], or why there is none; [`Converted`] reads it
//! again and changes what the plan names. What a signature covers (multipart/signed) and what may not be encoded
//! (fragments, reports) is never changed.

use std::io::{self, Read};

use super::decode::Encoding;
use super::lines::LONGEST_LINE;

mod field;
mod quote;
mod walk;

use quote::Encoder;
use walk::{Entity, Visitor, Walk};

/// What is wanted of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// No byte above 127, for a server without 8BITMIME; long lines go where they can.
    SevenBit,
    /// No line over 998 bytes (RFC 5322 section 2.1.1); other parts stay as they are.
    ShortLines,
}

/// What becomes of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    /// Not encoded so far; `utf8` where that names its charset.
    Quote {
        utf8: bool,
    },
    /// Quoted-printable already, but with bytes or lines that have no place in it.
    Requote,
    /// The same for base64.
    Rewrap,
}

/// What is to be changed; from [`Survey::plan`].
#[derive(Clone, Debug)]
pub struct Plan {
    want: Want,
    actions: Vec<Action>,
}

impl Plan {
    /// How many parts are encoded anew.
    pub fn count(&self) -> usize {
        self.actions.iter().filter(|action| **action != Action::Keep).count()
    }
}

/// The first pass; fed with the message as [`super::lines::Lines::plain`] gives it.
pub struct Survey {
    walk: Walk,
    found: Found,
}

struct Found {
    want: Want,
    leaves: Vec<Leaf>,
    /// Why it can't be done.
    obstacle: Option<String>,
}

#[derive(Default)]
struct Leaf {
    eight_bit: bool,
    longest: usize,
    line: usize,
    encoding: Encoding,
    fixed: bool,
    utf8: Utf8,
}

/// Told chunk by chunk.
#[derive(Default)]
struct Utf8 {
    wrong: bool,
    rest: Vec<u8>,
}

impl Utf8 {
    fn feed(&mut self, bytes: &[u8]) {
        let whole = [std::mem::take(&mut self.rest).as_slice(), bytes].concat();
        if let Err(why) = std::str::from_utf8(&whole) {
            match why.error_len() {
                Some(_) => self.wrong = true,
                None => self.rest = whole.get(why.valid_up_to()..).unwrap_or_default().to_vec(),
            }
        }
    }
}

impl Survey {
    /// Nothing was read yet.
    pub fn new(want: Want) -> Survey {
        let found = Found { want, leaves: Vec::new(), obstacle: None };
        Survey { walk: Walk::default(), found }
    }

    /// Takes in the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.walk.feed(bytes, &mut self.found);
    }

    /// Reads all of a message.
    pub fn read(want: Want, message: &mut dyn Read) -> io::Result<Survey> {
        let mut survey = Survey::new(want);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match message.read(&mut chunk) {
                Ok(0) => return Ok(survey),
                Ok(n) => survey.feed(&chunk[..n]),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// What is to be done, or why it can't be.
    pub fn plan(mut self) -> Result<Plan, String> {
        self.walk.finish(&mut self.found);
        let want = self.found.want;
        if let Some(why) = self.found.obstacle {
            return Err(why);
        }
        let mut actions = Vec::with_capacity(self.found.leaves.len());
        for leaf in &self.found.leaves {
            actions.push(leaf.action(want)?);
        }
        Ok(Plan { want, actions })
    }
}

impl Leaf {
    fn action(&self, want: Want) -> Result<Action, String> {
        let is_long = self.longest > LONGEST_LINE;
        let must = want == Want::SevenBit && self.eight_bit;
        let should = is_long || must;
        let why = match (&self.encoding, should) {
            (_, false) => return Ok(Action::Keep),
            _ if self.fixed => "a part of it is signed, or of a type that may not be encoded",
            (Encoding::Identity, _) => return Ok(Action::Quote { utf8: !self.utf8.wrong }),
            (Encoding::QuotedPrintable, _) => return Ok(Action::Requote),
            (Encoding::Base64, _) => return Ok(Action::Rewrap),
            _ => "a part of it has an encoding of its own",
        };
        // Long lines alone are let stand: most servers take them.
        if must || want == Want::ShortLines { Err(why.to_string()) } else { Ok(Action::Keep) }
    }
}

impl Visitor for Found {
    fn head(&mut self, entity: &Entity<'_>) {
        if let Some(why) = entity.trouble {
            self.obstacle.get_or_insert_with(|| why.to_string());
        }
        if self.want == Want::SevenBit && !entity.head.is_ascii() {
            let fits = !entity.fixed && new_head(entity, Action::Keep, self.want).is_ascii();
            if !fits {
                self.obstacle.get_or_insert_with(|| "a field of its header is not ASCII".to_string());
            }
        }
        if entity.is_leaf {
            self.leaves.push(Leaf {
                encoding: entity.encoding.clone(),
                fixed: entity.fixed,
                ..Leaf::default()
            });
        }
    }

    fn leaf(&mut self, _: usize, bytes: &[u8]) {
        let Some(leaf) = self.leaves.last_mut() else { return };
        if !bytes.is_ascii() {
            leaf.eight_bit = true;
            leaf.utf8.feed(bytes);
        } else if !leaf.utf8.rest.is_empty() {
            leaf.utf8.wrong = true;
        }
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            leaf.line += line.len();
            if line.ends_with(b"\n") {
                leaf.longest = leaf.longest.max(leaf.line - 2.min(leaf.line));
                leaf.line = 0;
            }
        }
        leaf.longest = leaf.longest.max(leaf.line.saturating_sub(1));
    }

    fn leaf_ends(&mut self, _: usize) {}

    /// Between the parts hardly anybody reads, but there is no way to say it in 7 bits.
    fn other(&mut self, bytes: &[u8]) {
        if self.want == Want::SevenBit && !bytes.is_ascii() {
            self.obstacle.get_or_insert_with(|| "some of them stand outside of its parts".to_string());
        }
    }
}

/// The second pass: the message as the plan wants it.
pub struct Converted<'a, R> {
    inner: R,
    walk: Walk,
    changes: Changes<'a>,
    chunk: Vec<u8>,
    taken: usize,
    ended: bool,
}

struct Changes<'a> {
    plan: &'a Plan,
    encoder: Encoder,
    leaves: usize,
    out: Vec<u8>,
}

impl<'a, R: Read> Converted<'a, R> {
    /// Reads from `inner`, the same bytes that the survey saw.
    pub fn new(inner: R, plan: &'a Plan) -> Self {
        let changes = Changes { plan, encoder: Encoder::default(), leaves: 0, out: Vec::new() };
        let (walk, chunk) = (Walk::default(), vec![0; 16 * 1024]);
        Converted { inner, walk, changes, chunk, taken: 0, ended: false }
    }
}

impl<R: Read> Read for Converted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.changes.out.len() && !self.ended {
            self.changes.out.clear();
            self.taken = 0;
            match self.inner.read(&mut self.chunk)? {
                0 => {
                    self.ended = true;
                    self.walk.finish(&mut self.changes);
                }
                n => self.walk.feed(&self.chunk[..n], &mut self.changes),
            }
        }
        let n = (&self.changes.out[self.taken..]).read(buffer)?;
        self.taken += n;
        Ok(n)
    }
}

impl Changes<'_> {
    fn action(&self, leaf: usize) -> Action {
        self.plan.actions.get(leaf).copied().unwrap_or(Action::Keep)
    }
}

impl Visitor for Changes<'_> {
    fn head(&mut self, entity: &Entity<'_>) {
        let action = if entity.is_leaf { self.action(self.leaves) } else { Action::Keep };
        self.leaves += usize::from(entity.is_leaf);
        let is_kept = entity.fixed || (self.plan.want == Want::ShortLines && action == Action::Keep);
        match is_kept {
            true => self.out.extend_from_slice(entity.head),
            false => self.out.extend(new_head(entity, action, self.plan.want)),
        }
        self.encoder = Encoder::default();
    }

    fn leaf(&mut self, number: usize, bytes: &[u8]) {
        match self.action(number) {
            Action::Keep => self.out.extend_from_slice(bytes),
            Action::Quote { .. } => self.encoder.quote(bytes, &mut self.out),
            Action::Requote => self.encoder.requote(bytes, &mut self.out),
            Action::Rewrap => self.encoder.rewrap(bytes, &mut self.out),
        }
    }

    fn leaf_ends(&mut self, number: usize) {
        match self.action(number) {
            Action::Keep | Action::Rewrap => {}
            Action::Quote { .. } | Action::Requote => self.encoder.end(&mut self.out),
        }
    }

    fn other(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// A head that says what its part is now.
fn new_head(entity: &Entity<'_>, action: Action, want: Want) -> Vec<u8> {
    let mut out = Vec::with_capacity(entity.head.len() + 100);
    let quotes = matches!(action, Action::Quote { .. });
    let (mut has_version, mut has_type) = (false, false);
    for field in raw_fields(entity.head) {
        let name = field.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
        has_version |= name.eq_ignore_ascii_case(b"mime-version");
        has_type |= name.eq_ignore_ascii_case(b"content-type");
        let is_encoding = name.eq_ignore_ascii_case(b"content-transfer-encoding");
        // Without this field it is 7bit.
        if is_encoding && (quotes || (want == Want::SevenBit && entity.encoding == Encoding::Identity)) {
            continue;
        }
        match want == Want::SevenBit && !field.is_ascii() {
            true => out.extend(field::encoded(field).unwrap_or_else(|| field.to_vec())),
            false => out.extend_from_slice(field),
        }
    }
    if let Action::Quote { utf8 } = action {
        if entity.is_message && !has_version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if !has_type {
            // RFC 1428 section 3: the name for what nobody knows.
            let charset = if utf8 { "utf-8" } else { "unknown-8bit" };
            out.extend_from_slice(format!("Content-Type: text/plain; charset={charset}\r\n").as_bytes());
        }
        out.extend_from_slice(b"Content-Transfer-Encoding: quoted-printable\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Each field with its continuation lines and line ends; the empty line at the end is left out.
fn raw_fields(head: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        if walk::ends_head(line, starts.is_empty()) {
            break;
        }
        if starts.is_empty() || !matches!(line[0], b' ' | b'\t') {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([at]);
    starts.iter().zip(ends).map(|(start, end)| &head[*start..end]).collect()
}

#[cfg(test)]
mod tests;
