//! Whom we believe: the system's roots, a CA file, or exactly one certificate by its fingerprint.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::config::{Fingerprint, Peer};
use crate::error::{Error, Kind, Result};
use crate::record::hex;

/// What one handshake needs, and what it learnt about the server.
pub(super) struct Trust {
    pub config: Arc<ClientConfig>,
    pub shown: Arc<Mutex<Option<String>>>,
}

/// Settings for a handshake with this peer.
pub(super) fn trust(peer: &Peer) -> Result<Trust> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = Arc::new(Mutex::new(None));
    let judge = Judge {
        rule: rule(peer, &provider)?,
        algorithms: provider.signature_verification_algorithms,
        shown: shown.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| Error::new(Kind::Internal, "cannot set up TLS", why))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    Ok(Trust { config: Arc::new(config), shown })
}

fn rule(peer: &Peer, provider: &Arc<CryptoProvider>) -> Result<Rule> {
    if let Some(pin) = peer.tls_fingerprint {
        return Ok(Rule::Pinned(pin));
    }
    let verifier: Arc<dyn ServerCertVerifier> = match &peer.tls_ca {
        None => Arc::new(rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|why| {
            Error::new(Kind::Config, "cannot load the system's certificates", why)
                .hint("install ca-certificates, or use --tls-ca or --tls-fingerprint")
        })?),
        Some(file) => {
            let doing = || format!("cannot use the certificates in {}", file.display());
            let mut roots = RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|why| Error::new(Kind::Config, doing(), why))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|why| Error::new(Kind::Config, doing(), why))?;
                roots.add(certificate).map_err(|why| Error::new(Kind::Config, doing(), why))?;
            }
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|why| Error::new(Kind::Config, doing(), why))?
        }
    };
    Ok(Rule::Chain(verifier))
}

#[derive(Debug)]
enum Rule {
    Pinned(Fingerprint),
    Chain(Arc<dyn ServerCertVerifier>),
}

/// Applies the rule and remembers what it was shown, so that a refusal can name the fingerprint.
#[derive(Debug)]
struct Judge {
    rule: Rule,
    algorithms: WebPkiSupportedAlgorithms,
    shown: Arc<Mutex<Option<String>>>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest: [u8; 32] = Sha256::digest(leaf.as_ref()).into();
        if let Ok(mut shown) = self.shown.lock() {
            *shown = Some(hex(&digest));
        }
        match &self.rule {
            // The certificate itself is the trust anchor: its dates, names and CA flag say nothing more.
            Rule::Pinned(pin) if pin.0 == digest => Ok(ServerCertVerified::assertion()),
            Rule::Pinned(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Rule::Chain(verifier) => verifier.verify_server_cert(leaf, chain, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
