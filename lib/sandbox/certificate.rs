//! A throw-away certificate authority, and a server certificate for `localhost` signed by it.
//!
//! The leaf is no CA itself: rustls refuses a CA:TRUE certificate as a server's. Neither key touches the disk.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::{Error, Kind, Result};

/// Makes both, writes the authority to `dir/ca.pem` (replacing that of an earlier run) and gives the way to it.
pub fn make(dir: &Path) -> Result<(Arc<ServerConfig>, PathBuf)> {
    fs::create_dir_all(dir).map_err(|why| Error::creating(dir, why))?;
    let dir = fs::canonicalize(dir).map_err(|why| Error::reading(dir, why))?;
    let (config, pem) = config()?;
    let (aside, path) = (dir.join(".ca.pem.new"), dir.join("ca.pem"));
    fs::write(&aside, pem).map_err(|why| Error::creating(&aside, why))?;
    fs::rename(&aside, &path).map_err(|why| Error::creating(&path, why))?;
    Ok((Arc::new(config), path))
}

fn config() -> Result<(ServerConfig, String)> {
    let failed = |why: rcgen::Error| Error::new(Kind::Internal, "cannot make a certificate", why);
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "mail-sandbox throw-away authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().map_err(failed)?;
    let ca_cert = ca.self_signed(&ca_key).map_err(failed)?;

    let mut leaf = CertificateParams::new(vec!["localhost".to_string()]).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    leaf.subject_alt_names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let cert = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).map_err(failed)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .map_err(|why| Error::new(Kind::Internal, "cannot set up TLS", why))?;
    Ok((config, ca_cert.pem()))
}
