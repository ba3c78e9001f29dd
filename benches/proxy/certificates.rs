//! One CA and one certificate a name, ECDSA P-256, the same for every peer.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

/// Writes `NAME.crt`, `NAME.key` and, for haproxy, both in `pem/NAME.pem`; gives the CA's certificate back.
pub fn write(directory: &Path, names: &[&str]) -> Result<CertificateDer<'static>> {
    let authority = authority()?;
    let together = directory.join("pem");
    fs::create_dir_all(&together)?;
    for name in names {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new([(*name).to_owned()])?;
        leaf.distinguished_name.push(DnType::CommonName, *name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = leaf.signed_by(&key, &authority)?.pem();
        for (path, text) in [
            (directory.join(format!("{name}.crt")), certificate.clone()),
            (directory.join(format!("{name}.key")), key.serialize_pem()),
            (together.join(format!("{name}.pem")), certificate + &key.serialize_pem()),
        ] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    fs::write(directory.join("ca.pem"), authority.pem())?;
    Ok(authority.der().clone())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "Measurement CA");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}
