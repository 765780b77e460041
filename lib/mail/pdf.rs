//! A page of text as a PDF (ISO 32000-1, section 7.5): what the demo sends.

/// A valid PDF of one A4 page that shows `words`, uncompressed, so that they can be found in its bytes.
/// Only ASCII is shown; other characters become `?`.
pub fn page(words: &str) -> Vec<u8> {
    let plain: String = words.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    let text = plain.replace('\\', r"\\").replace('(', r"\(").replace(')', r"\)");
    let page = format!("BT /F1 24 Tf 72 720 Td ({text}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{page}\nendstream", page.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (number, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", pdf.len());
        pdf.extend(format!("{} 0 obj\n{object}\nendobj\n", number + 1).bytes());
    }
    let (start, size) = (pdf.len(), objects.len() + 1);
    let tail = format!(
        "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    );
    pdf.extend(tail.bytes());
    pdf
}

#[cfg(test)]
mod tests {
    #[test]
    fn offsets_are_right() {
        let pdf = super::page("Round 1 (of 3)");
        let text = String::from_utf8_lossy(&pdf);
        let start: usize = text.lines().rev().nth(1).and_then(|line| line.parse().ok()).unwrap();
        assert!(pdf[start..].starts_with(b"xref\n0 6\n"));
        for (number, line) in text.lines().filter(|line| line.ends_with(" n ")).enumerate() {
            let at: usize = line[..10].parse().unwrap();
            assert!(pdf[at..].starts_with(format!("{} 0 obj\n", number + 1).as_bytes()));
        }
    }
}
