//! A path in a record: `"path"`, or `"path_hex"` where it is no UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path, or none; flattened into its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPath(pub Option<PathBuf>);

impl RecordPath {
    /// The path, if there is one.
    pub fn get(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl From<&Path> for RecordPath {
    fn from(path: &Path) -> Self {
        RecordPath(Some(crate::report::dotted(path).into_owned()))
    }
}

impl Serialize for RecordPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = match self.get() {
            None => ("path", None),
            Some(path) => match path.to_str() {
                Some(text) => ("path", Some(text.to_string())),
                None => ("path_hex", Some(hex(path.as_os_str().as_bytes()))),
            },
        };
        serializer.collect_map([entry])
    }
}

impl<'de> Deserialize<'de> for RecordPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Fields {
            path: Option<String>,
            path_hex: Option<String>,
        }
        let fields = Fields::deserialize(deserializer)?;
        Ok(RecordPath(match (fields.path, fields.path_hex) {
            (Some(text), _) => Some(text.into()),
            (None, Some(hex)) => {
                let bytes = unhex(&hex).ok_or_else(|| D::Error::custom("path_hex is no hex"))?;
                Some(OsString::from_vec(bytes).into())
            }
            (None, None) => None,
        }))
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hex; colons between them are allowed, as in certificate fingerprints.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_goes_as_hex() {
        let path = RecordPath::from(Path::new(std::ffi::OsStr::from_bytes(b"/a\xff")));
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(text, r#"{"path_hex":"2f61ff"}"#);
        assert_eq!(serde_json::from_str::<RecordPath>(&text).unwrap(), path);
    }
}
