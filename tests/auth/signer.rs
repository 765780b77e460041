//! Signs messages as a sender's server does, with code that shares nothing with what verifies them.

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use sha2::{Digest, Sha256};

/// How a message is signed.
#[derive(Clone)]
pub struct Signer {
    pub domain: String,
    pub selector: String,
    pub rsa: bool,
    /// `c=`
    pub form: &'static str,
    /// `h=`
    pub covered: &'static str,
    /// Tags that stand before `bh=`, such as `x=1; `.
    pub more: String,
    /// Sign only so much of the body, and say so.
    pub length: Option<usize>,
    /// Makes the key another one.
    pub seed: u8,
}

/// One that signs everything properly.
pub fn signer(domain: &str) -> Signer {
    Signer {
        domain: domain.into(),
        selector: "s1".into(),
        rsa: false,
        form: "relaxed/relaxed",
        covered: "From:To:Subject:Date:From",
        more: String::new(),
        length: None,
        seed: 7,
    }
}

impl Signer {
    /// The TXT record with its key.
    pub fn record(&self) -> String {
        match self.rsa {
            true => format!("v=DKIM1; p={}", base64(&public_info(rsa().public().as_ref()))),
            false => format!("v=DKIM1; k=ed25519; p={}", base64(self.ed25519().public_key().as_ref())),
        }
    }

    /// The name under which the record stands.
    pub fn name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The message, whose lines end in CRLF, with the signature on top.
    pub fn sign(&self, message: &str) -> String {
        let (head, body) = message.split_once("\r\n\r\n").expect("a message has a body");
        let relaxed = self.form.split('/').map(|form| form == "relaxed").collect::<Vec<_>>();
        let body = canonical_body(body, relaxed[1]);
        let part = &body[..self.length.unwrap_or(body.len())];
        let length = self.length.map(|length| format!("l={length}; ")).unwrap_or_default();
        let algorithm = if self.rsa { "rsa-sha256" } else { "ed25519-sha256" };
        let Signer { form, domain, selector, covered, more, .. } = self;
        let own = format!(
            "DKIM-Signature: v=1; a={algorithm}; c={form};\r\n d={domain}; s={selector}; {length}{more}h={covered};\r\n \
             bh={}; b=",
            base64(&Sha256::digest(part))
        );
        let mut left: Vec<&str> = fields(head);
        let mut signed = String::new();
        for name in covered.split(':') {
            let is_it =
                |field: &&str| field.split(':').next().unwrap().trim().eq_ignore_ascii_case(name.trim());
            if let Some(at) = left.iter().rposition(is_it) {
                signed += &(canonical_field(left.remove(at), relaxed[0]) + "\r\n");
            }
        }
        signed += &canonical_field(&own, relaxed[0]);
        let signature = match self.rsa {
            true => {
                let mut signature = vec![0; 256];
                rsa()
                    .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            false => self.ed25519().sign(&Sha256::digest(signed)).as_ref().to_vec(),
        };
        let signature = base64(&signature);
        let folded: Vec<&str> =
            (0..signature.len()).step_by(70).map(|at| &signature[at..signature.len().min(at + 70)]).collect();
        format!("{own}{}\r\n{message}", folded.join("\r\n\t"))
    }

    fn ed25519(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.seed; 32]).unwrap()
    }
}

/// A key for these tests alone.
fn rsa() -> RsaKeyPair {
    RsaKeyPair::from_der(include_bytes!("../data/auth/rsa-2048.der")).unwrap()
}

/// `SubjectPublicKeyInfo` around an `RSAPublicKey` of 2048 bits.
fn public_info(key: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(inner.len()).unwrap().to_be_bytes());
        out.extend_from_slice(inner);
        out
    };
    let kind = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    wrap(0x30, &[&kind[..], &wrap(3, &[&[0], key].concat())].concat())
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn fields(head: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut start = 0;
    for (at, _) in head.match_indices("\r\n") {
        if !head[at + 2..].starts_with([' ', '\t']) {
            fields.push(&head[start..at]);
            start = at + 2;
        }
    }
    fields.push(&head[start..]);
    fields
}

fn canonical_field(field: &str, relaxed: bool) -> String {
    let (name, value) = field.split_once(':').unwrap();
    match relaxed {
        true => format!(
            "{}:{}",
            name.trim_end().to_lowercase(),
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        ),
        false => field.to_string(),
    }
}

fn canonical_body(body: &str, relaxed: bool) -> String {
    let mut lines: Vec<String> = body.split("\r\n").map(str::to_string).collect();
    if relaxed {
        for line in &mut lines {
            let starts_blank = line.starts_with([' ', '\t']) && !line.trim().is_empty();
            let words = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            *line = if starts_blank { format!(" {words}") } else { words };
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    match (lines.is_empty(), relaxed) {
        (true, true) => String::new(),
        (true, false) => "\r\n".into(),
        _ => lines.join("\r\n") + "\r\n",
    }
}
