//! A certificate of our own, and connections by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Both sides of the proxy.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    folder: Arc<tempfile::TempDir>,
}

impl Tls {
    /// A new authority, and a certificate of it for this machine.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("redis-lock-tls-").tempdir().unwrap();
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "authority of the tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let issuer = Issuer::new(authority, authority_key);
        let mut certificate = CertificateParams::new(names).unwrap();
        // Not the name of the authority, or it would be taken to have signed itself.
        certificate.distinguished_name.push(DnType::CommonName, "server of the tests");
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        for (name, text) in [
            ("ca.pem", authority_certificate.pem()),
            ("certificate.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority_certificate.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_file(folder.path().join("certificate.pem")).unwrap()];
        let private = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
        let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).unwrap();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            folder: Arc::new(folder),
        }
    }

    /// What a client has to trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Lines for the configuration of a server that listens so at this port.
    pub(crate) fn directives(&self, port: u16) -> [String; 5] {
        let file = |name: &str| Path::join(self.folder.path(), name).display().to_string();
        [
            format!("tls-port {port}"),
            format!("tls-cert-file {}", file("certificate.pem")),
            format!("tls-key-file {}", file("key.pem")),
            format!("tls-ca-cert-file {}", file("ca.pem")),
            "tls-auth-clients no".to_owned(),
        ]
    }

    pub(crate) async fn accept(&self, client: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        self.acceptor.accept(client).await
    }

    pub(crate) async fn connect(&self, server: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        self.connector.connect(ServerName::try_from("127.0.0.1").unwrap(), server).await
    }
}
