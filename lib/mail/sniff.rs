//! What bytes are, told by their beginning: PDF for certain, a few other common types by their magic.

/// How much of a file's beginning [`sniff`] wants to see.
pub const HEAD: usize = 1024;

/// A type told by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// `application/pdf` and so on.
    pub mime: &'static str,
    /// The usual file name extension, without a dot.
    pub extension: &'static str,
}

/// The PDF type.
pub const PDF: Kind = Kind { mime: "application/pdf", extension: "pdf" };

/// Magic at offset 0; the longer come first where one begins another.
const MAGIC: &[(&[u8], Kind)] = &[
    (b"\x89PNG\r\n\x1a\n", kind("image/png", "png")),
    (b"\xff\xd8\xff", kind("image/jpeg", "jpg")),
    (b"GIF87a", kind("image/gif", "gif")),
    (b"GIF89a", kind("image/gif", "gif")),
    (b"II*\0", kind("image/tiff", "tiff")),
    (b"MM\0*", kind("image/tiff", "tiff")),
    (b"%!PS", kind("application/postscript", "ps")),
    (b"{\\rtf", kind("application/rtf", "rtf")),
    (b"PK\x03\x04", kind("application/zip", "zip")),
    (b"PK\x05\x06", kind("application/zip", "zip")),
    (b"PK\x07\x08", kind("application/zip", "zip")),
    (b"\x1f\x8b\x08", kind("application/gzip", "gz")),
    (b"BZh", kind("application/x-bzip2", "bz2")),
    (b"\xfd7zXZ\0", kind("application/x-xz", "xz")),
    (b"7z\xbc\xaf\x27\x1c", kind("application/x-7z-compressed", "7z")),
    (b"Rar!\x1a\x07", kind("application/vnd.rar", "rar")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", kind("application/x-ole-storage", "ole")),
    (b"\x28\xb5\x2f\xfd", kind("application/zstd", "zst")),
    (b"MSCF\0\0\0\0", kind("application/vnd.ms-cab-compressed", "cab")),
    (b"!<arch>\n", kind("application/x-archive", "a")),
    (b"\x78\x9f\x3e\x22", kind("application/ms-tnef", "dat")),
    (b"ID3", kind("audio/mpeg", "mp3")),
    (b"OggS", kind("audio/ogg", "ogg")),
    (b"\x7fELF", kind("application/x-executable", "elf")),
];

/// What a tar archive has at [`TAR_AT`]; its first file begins right behind, within what is looked at.
const TAR: &[u8] = b"ustar";
const TAR_AT: usize = 257;

const fn kind(mime: &'static str, extension: &'static str) -> Kind {
    Kind { mime, extension }
}

/// The type of a file that begins with `head` (give [`HEAD`] bytes); `None` where nothing is known.
///
/// A PDF may have other bytes in front of `%PDF-`, as readers allow it (ISO 32000, implementation note 13); but what is
/// something else from its first byte on is that, whatever lies in it.
pub fn sniff(head: &[u8]) -> Option<Kind> {
    let near = &head[..head.len().min(HEAD)];
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| near.starts_with(magic)) {
        return Some(*kind);
    }
    if near.get(TAR_AT..).is_some_and(|rest| rest.starts_with(TAR)) && !near.starts_with(b"%PDF-") {
        return Some(kind("application/x-tar", "tar"));
    }
    if memchr::memmem::find(near, b"%PDF-").is_some() {
        return Some(PDF);
    }
    match near {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(kind("image/webp", "webp")),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(kind("video/mp4", "mp4")),
        _ => None,
    }
}

/// The type to go by: what the bytes say, else what the sender said, unless that is plainly wrong.
pub fn judge(found: Option<Kind>, said: &str) -> String {
    match found {
        // Office documents are zip or OLE inside: there the sender knows more.
        Some(kind) if !is_container(kind) || said == "application/octet-stream" => kind.mime.to_string(),
        _ if said == PDF.mime || !said.contains('/') => "application/octet-stream".to_string(),
        _ => said.to_string(),
    }
}

/// The extension for a file whose name has none.
pub fn extension(found: Option<Kind>, said: &str) -> Option<&'static str> {
    if let Some(kind) = found
        && (!is_container(kind) || !said.contains("officedocument"))
    {
        return Some(kind.extension);
    }
    Some(match said {
        "text/plain" => "txt",
        "text/html" => "html",
        "text/calendar" => "ics",
        "text/csv" => "csv",
        "text/vcard" | "text/x-vcard" => "vcf",
        "text/xml" | "application/xml" => "xml",
        "application/json" => "json",
        "application/pgp-signature" => "asc",
        "application/pkcs7-signature" | "application/x-pkcs7-signature" => "p7s",
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => "p7m",
        "application/ms-tnef" => "dat",
        "image/svg+xml" => "svg",
        "message/rfc822" | "message/global" => "eml",
        _ => return None,
    })
}

fn is_container(kind: Kind) -> bool {
    matches!(kind.extension, "zip" | "ole" | "gz")
}

/// True if the text itself is a PDF, not merely a text that speaks of one: for bodies that are shown, not attached.
pub fn begins_as_pdf(head: &[u8]) -> bool {
    head.trim_ascii_start().starts_with(b"%PDF-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pdf_may_begin_late_but_not_too_late() {
        let late = |blanks: usize| [vec![b' '; blanks], b"%PDF-1.7".to_vec()].concat();
        assert_eq!(sniff(&late(0)), Some(PDF));
        assert_eq!(sniff(&late(1019)), Some(PDF));
        assert_eq!(sniff(&late(1020)), None);
        assert_eq!(sniff(b"PK\x03\x04").map(|k| k.extension), Some("zip"));
        assert_eq!(sniff(b""), None);
    }

    #[test]
    fn what_a_pdf_lies_in_is_none() {
        let tar = [&[0; 257][..], b"ustar\x0000", &[0; 248], b"%PDF-1.7"].concat();
        assert_eq!(sniff(&tar).map(|kind| kind.extension), Some("tar"));
        assert_eq!(sniff(b"\x78\x9f\x3e\x22\x01\0%PDF-1.7").map(|kind| kind.extension), Some("dat"));
        assert_eq!(sniff(&[b"%PDF-1.7", &tar[8..]].concat()), Some(PDF));
    }
}
