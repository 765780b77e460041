//! The head of a message read strictly: where readers could disagree about what is a field, there is none to judge.

/// A longer head is not judged.
const LONGEST: usize = 1 << 20;

/// The fields of a head in their order, and the body.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub fields: Vec<Field<'a>>,
    #[cfg_attr(not(feature = "dkim"), allow(dead_code, reason = "only signatures cover the body"))]
    pub body: &'a [u8],
    /// Lines end in CRLF, as on the wire; else in LF, as many a program stores them.
    #[cfg_attr(not(feature = "dkim"), allow(dead_code, reason = "only signatures cover line ends"))]
    pub is_wire: bool,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Its name as written, without the blanks that may follow it.
    pub name: &'a str,
    /// All of it, folded, without the last line end.
    pub raw: &'a [u8],
    /// Where the value begins, behind the colon.
    pub value_at: usize,
}

impl<'a> Field<'a> {
    /// True if it is called so, whatever the case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// What stands behind the colon, folded.
    pub fn value(&self) -> &'a [u8] {
        self.raw.get(self.value_at..).unwrap_or_default()
    }

    /// The value in one line; an error in words where it is no ASCII.
    pub fn line(&self) -> Result<String, String> {
        let value = self.value();
        if !value.is_ascii() {
            return Err(format!("its {} field holds bytes that are no ASCII", self.name));
        }
        Ok(value.iter().filter(|byte| !b"\r\n".contains(byte)).map(|byte| char::from(*byte)).collect())
    }
}

impl<'a> Head<'a> {
    /// Splits a message; an error in words where its head is doubtful.
    pub fn of(message: &'a [u8]) -> Result<Head<'a>, String> {
        let mut head = Head { fields: Vec::new(), body: &[], is_wire: false };
        let (mut at, mut start) = (0, 0);
        while at < message.len() {
            let end = memchr::memchr(b'\n', &message[at..]).map_or(message.len(), |found| at + found);
            if end > LONGEST {
                return Err("its header is too long to judge".into());
            }
            let next = (end + 1).min(message.len());
            let line = &message[at..end];
            let is_wire = line.ends_with(b"\r");
            let line = if is_wire { &line[..line.len() - 1] } else { line };
            if at == 0 {
                head.is_wire = is_wire;
            } else if is_wire != head.is_wire && end < message.len() {
                return Err("the lines of its header end in different ways".into());
            }
            if line.is_empty() {
                head.body = &message[next..];
                return Ok(head);
            }
            let raw_end = at + line.len();
            if line.iter().any(|byte| b"\r\0".contains(byte)) {
                return Err("its header holds a lone carriage return or a NUL".into());
            }
            if line[0] == b' ' || line[0] == b'\t' {
                let is_blank = line.iter().all(|byte| b" \t".contains(byte));
                match head.fields.last_mut() {
                    Some(field) if !is_blank => field.raw = &message[start..raw_end],
                    _ => return Err("its header holds a line that belongs to no field".into()),
                }
            } else {
                start = at;
                head.fields.push(field(line)?);
            }
            at = next;
        }
        Ok(head)
    }

    /// The first of these names that two fields have.
    pub fn twice<'b>(&self, names: &[&'b str]) -> Option<&'b str> {
        names.iter().copied().find(|name| self.fields.iter().filter(|field| field.is(name)).nth(1).is_some())
    }

    /// The fields of this name, from the top.
    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Field<'a>> {
        self.fields.iter().filter(move |field| field.is(name))
    }
}

/// `field-name ":" unstructured`, with the blanks before the colon of RFC 5322 section 4.5.
fn field(line: &[u8]) -> Result<Field<'_>, String> {
    let wrong = || "its header holds a line that is no field".to_string();
    let colon = memchr::memchr(b':', line).ok_or_else(wrong)?;
    let name = line[..colon].trim_ascii_end();
    let name = std::str::from_utf8(name).map_err(|_| wrong())?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok(Field { name, raw: line, value_at: colon + 1 })
}
