//! Certificates for loopback servers and their clients, issued by an authority that exists only for
//! the test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// A directory of PEM files. Dropping it removes them.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Issues a server certificate for `localhost` and 127.0.0.1 and a client certificate, by a new
    /// authority.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("forge-tls-").tempdir().expect("a temporary directory");
        let certificates = Self { directory };
        let mut authority = CertificateParams::new(Vec::new()).expect("an empty list of names is valid");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("generating a key");
        let certificate = authority.self_signed(&key).expect("signing a certificate");
        certificates.write("ca.pem", &certificate.pem());
        let issuer = Issuer::new(authority, key);
        certificates.issue(
            "server",
            &["localhost", "127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
            &issuer,
        );
        certificates.issue("client", &["client"], ExtendedKeyUsagePurpose::ClientAuth, &issuer);
        certificates
    }

    fn issue(
        &self,
        name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        issuer: &Issuer<'_, KeyPair>,
    ) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("generating a key");
        let certificate = params.signed_by(&key, issuer).expect("signing a certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("writing a PEM file");
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    /// Path of the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Paths of the server's certificate and key.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.path("server.pem"), self.path("server.key"))
    }

    /// Paths of the client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.path("client.pem"), self.path("client.key"))
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
