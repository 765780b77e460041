//! SCRAM (RFC 5802, RFC 7677): a login that never sends the password, and in which the server proves that it knows it.
//!
//! Without channel binding: the line's own TLS has said who the server is.

use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Which hash is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-1, for servers that know no other.
    Sha1,
}

/// One exchange, as the client sees it.
pub(super) struct Scram {
    hash: Hash,
    user: Zeroizing<String>,
    password: Zeroizing<String>,
    nonce: String,
    state: State,
}

enum State {
    /// The server is to name salt and rounds.
    Asked,
    /// It is to show that it knows the password: its key, and what both have said.
    Proved(hmac::Key, String),
    /// It has shown it.
    Trusted,
    /// It talked nonsense, or could not show it.
    Failed,
}

/// A server that asks for more rounds wants to keep us busy; 4096 are usual (RFC 7677 section 4).
const MOST_ROUNDS: u32 = 1_000_000;

/// No channel binding, and no other name to act as (RFC 5802 section 7).
const HEAD: &str = "n,,";

impl Hash {
    /// As it stands in AUTH=….
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha1 => "SCRAM-SHA-1",
        }
    }

    fn mac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        }
    }

    fn rounds(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        }
    }
}

impl Scram {
    /// Begins one; an error says what is wrong with our side.
    pub fn begin(hash: Hash, user: &str, password: &Secret) -> Result<Scram, &'static str> {
        let mut random = [0; 18];
        ring::rand::SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| "the system gives no random numbers")?;
        Ok(Scram::with_nonce(hash, user, password, base64_simd::STANDARD.encode_to_string(random)))
    }

    fn with_nonce(hash: Hash, user: &str, password: &Secret, nonce: String) -> Scram {
        // RFC 5802 section 5.1: these two have a form of their own in a name.
        let user = Zeroizing::new(prepared(user).replace('=', "=3D").replace(',', "=2C"));
        Scram { hash, user, password: prepared(password.reveal()), nonce, state: State::Asked }
    }

    /// What the client says first.
    pub fn first(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{HEAD}{}", self.first_bare()))
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", &*self.user, self.nonce)
    }

    /// The answer to a challenge. An error says what is wrong with the server; the exchange is then over.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<String>, String> {
        let state = std::mem::replace(&mut self.state, State::Failed);
        let challenge = std::str::from_utf8(challenge).map_err(|_| "its challenge is no text")?;
        match state {
            State::Asked => self.prove(challenge),
            State::Proved(key, said) => {
                self.state = trust(&key, &said, challenge)?;
                Ok(Zeroizing::default())
            }
            State::Trusted | State::Failed => Err("it asks for more than there is to say".into()),
        }
    }

    /// True once the server has shown that it knows the password. A success without that is none.
    pub fn is_trusted(&self) -> bool {
        matches!(self.state, State::Trusted)
    }

    /// `r=nonce,s=salt,i=rounds`, and perhaps extensions that bind nobody.
    fn prove(&mut self, challenge: &str) -> Result<Zeroizing<String>, String> {
        let mut fields = challenge.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        // An `m=` in front would be an extension that must be understood; there is none.
        let (Some(nonce), Some(salt), Some(rounds)) = (field("r="), field("s="), field("i=")) else {
            return Err(format!("its challenge is no SCRAM: {challenge:?}"));
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("it answers to another login (its nonce is not ours)".into());
        }
        let salt = base64_simd::STANDARD.decode_to_vec(salt).map_err(|_| "its salt is no base64")?;
        let rounds = rounds.parse().ok().filter(|rounds| *rounds <= MOST_ROUNDS);
        let rounds = rounds.and_then(std::num::NonZeroU32::new);
        let rounds = rounds.ok_or_else(|| format!("it asks for 0, or more than {MOST_ROUNDS}, rounds"))?;
        let mut salted = Zeroizing::new(vec![0; self.hash.mac().digest_algorithm().output_len()]);
        pbkdf2::derive(self.hash.rounds(), rounds, &salt, self.password.as_bytes(), &mut salted);
        let key = hmac::Key::new(self.hash.mac(), &salted);
        let last = format!("c={},r={nonce}", base64_simd::STANDARD.encode_to_string(HEAD));
        let said = format!("{},{challenge},{last}", self.first_bare());
        let server_key = hmac::sign(&key, b"Server Key");
        self.state = State::Proved(hmac::Key::new(self.hash.mac(), server_key.as_ref()), said.clone());
        Ok(Zeroizing::new(format!("{last},p={}", &*proof(&key, &said))))
    }
}

/// ClientKey XOR ClientSignature (RFC 5802 section 3), in base64.
fn proof(salted: &hmac::Key, said: &str) -> Zeroizing<String> {
    let algorithm = salted.algorithm();
    let client_key = hmac::sign(salted, b"Client Key");
    let stored_key = digest::digest(algorithm.digest_algorithm(), client_key.as_ref());
    let signature = hmac::sign(&hmac::Key::new(algorithm, stored_key.as_ref()), said.as_bytes());
    let bytes = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign);
    Zeroizing::new(base64_simd::STANDARD.encode_to_string(bytes.collect::<Vec<u8>>()))
}

/// `v=signature`.
fn trust(key: &hmac::Key, said: &str, challenge: &str) -> Result<State, String> {
    // `e=why`: its refusal follows.
    if challenge.starts_with("e=") {
        return Ok(State::Failed);
    }
    let signature = challenge.strip_prefix("v=").and_then(|rest| rest.split(',').next());
    let signature = signature.and_then(|text| base64_simd::STANDARD.decode_to_vec(text).ok());
    let right = signature.is_some_and(|sign| hmac::verify(key, said.as_bytes(), &sign).is_ok());
    right.then_some(State::Trusted).ok_or_else(|| "it does not know the password itself".into())
}

/// As RFC 4013 writes names and passwords; what that forbids goes as it is.
fn prepared(text: &str) -> Zeroizing<String> {
    Zeroizing::new(stringprep::saslprep(text).map_or_else(|_| text.to_string(), |text| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(hash: Hash, nonce: &str) -> Scram {
        Scram::with_nonce(hash, "user", &Secret::new("pencil".into()), nonce.into())
    }

    /// RFC 7677 section 3.
    const FIRST_256: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_examples_of_the_rfcs() {
        let mut scram = begun(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(&*scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = scram.answer(FIRST_256.as_bytes()).unwrap();
        assert_eq!(
            &*last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_trusted());
        assert_eq!(&*scram.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), "");
        assert!(scram.is_trusted());

        let mut scram = begun(Hash::Sha1, "fyko+d2lbbFgONRv9qkxdawL");
        let first = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let last = scram.answer(first).unwrap();
        assert!(last.ends_with(",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="), "{}", &*last);
        scram.answer(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap();
        assert!(scram.is_trusted());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_trusted() {
        for last in ["v=AAAA", "v=", "", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="] {
            let mut scram = begun(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
            scram.answer(FIRST_256.as_bytes()).unwrap();
            assert!(scram.answer(last.as_bytes()).is_err(), "{last}");
            assert!(!scram.is_trusted());
            // Nor afterwards.
            assert!(scram.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
            assert!(!scram.is_trusted());
        }
    }

    #[test]
    fn challenges_that_are_none() {
        for first in [
            "",
            ",",
            "r",
            "r=rOpr,s=QUJD,i=4096",
            "r=other,s=QUJD,i=4096",
            "r=rOprX,s=QUJD",
            "m=x,r=rOprX,s=QUJD,i=1",
            "r=rOprX,s=?,i=1",
            "r=rOprX,s=QUJD,i=0",
            "r=rOprX,s=QUJD,i=4294967295",
            "r=rOprX,s=QUJD,i=-1",
        ] {
            assert!(begun(Hash::Sha256, "rOpr").answer(first.as_bytes()).is_err(), "{first}");
        }
        assert!(begun(Hash::Sha256, "rOpr").answer(b"r=rOprX,s=QUJD,i=1,x=y").is_ok());
        assert!(begun(Hash::Sha256, "rOpr").answer(b"\xff").is_err());
    }

    #[test]
    fn names_keep_their_commas() {
        let secret = Secret::new("x".into());
        let scram = Scram::with_nonce(Hash::Sha1, "a=b,c\u{a0}d", &secret, "n".into());
        assert_eq!(&*scram.first(), "n,,n=a=3Db=2Cc d,r=n");
    }
}
