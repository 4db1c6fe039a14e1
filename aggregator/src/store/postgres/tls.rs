//! How the server is reached: the address as libpq writes it, and TLS where it is not this machine.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What `--store postgres://…` says.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl Address {
    /// Reads the address. `sslmode` is that of libpq but for two things: where TLS is spoken the server's certificate is always checked,
    /// so that `require`, `verify-ca` and `verify-full` are one; and without `sslmode` TLS is spoken with every server but those of
    /// this machine. `sslrootcert` names the authority's file, by default the system's authorities are trusted.
    ///
    /// # Errors
    /// In a sentence without the password: when the address or the file of the authority cannot be read.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let mut root_certificates = None;
        let mut mode = None;
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslrootcert", path)) => root_certificates = Some(path.replace("%2F", "/")),
                Some(("sslmode", value)) => mode = Some(ssl_mode(value)?),
                _ => others.push(parameter),
            }
        }
        let plain = if others.is_empty() { rest.to_owned() } else { format!("{rest}?{}", others.join("&")) };
        let mut config: Config = plain.parse().map_err(|error| {
            format!("--store has to be postgres://USER:PASSWORD@HOST:PORT/DATABASE, and this is not: {error}")
        })?;
        if config.get_hosts().is_empty() {
            return Err(
                "--store postgres://… has no host: write postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                    .to_owned(),
            );
        }
        let here = config.get_hosts().iter().all(is_this_machine);
        let mode = mode.unwrap_or(if here { SslMode::Disable } else { SslMode::Require });
        config.ssl_mode(mode);
        let roots = if mode == SslMode::Disable { RootCertStore::empty() } else { roots(root_certificates)? };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(client) })
    }
}

fn ssl_mode(value: &str) -> Result<SslMode, String> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "require" | "verify-ca" | "verify-full" => Ok(SslMode::Require),
        other => Err(format!(
            "sslmode={other} in --store leaves open whether TLS is spoken: write disable or verify-full"
        )),
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn roots(file: Option<String>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this system has no certificate authorities to check PostgreSQL's certificate with: name a file with sslrootcert=PATH in --store"
                    .to_owned(),
            );
        }
        return Ok(roots);
    };
    let complaint = |error: &dyn std::fmt::Display| {
        format!(
            "sslrootcert {file} in --store cannot be read: {error}; it has to be a file of PEM certificates"
        )
    };
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| complaint(&error))? {
        roots.add(certificate.map_err(|error| complaint(&error))?).map_err(|error| complaint(&error))?;
    }
    if roots.is_empty() { Err(complaint(&"it has no certificate")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, String> {
        Address::parse(url).map(|address| address.config.get_ssl_mode())
    }

    #[test]
    fn plain_text_is_for_this_machine_alone() {
        for here in ["postgres://u@127.0.0.1/l", "postgres://u@localhost/l", "postgresql://u@%2Frun%2Fpg/l"] {
            assert_eq!(mode(here), Ok(SslMode::Disable), "{here}");
        }
        let away = Address::parse("postgres://u:p@db.example/l").map(|address| address.config.get_ssl_mode());
        assert!(matches!(away, Ok(SslMode::Require)) || away.is_err_and(|said| said.contains("sslrootcert")));
        assert_eq!(mode("postgres://u@db.example/l?sslmode=disable&connect_timeout=3"), Ok(SslMode::Disable));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (wrong, words) in [
            ("postgres://u:secret@db.example/l?sslmode=prefer", "sslmode=prefer"),
            ("postgres://u:secret@db.example:port/l", "has to be postgres://"),
            ("postgres://u:secret@db.example/l?sslrootcert=/no/such/file", "/no/such/file"),
            ("postgres://", "no host"),
        ] {
            let said = mode(wrong).expect_err(wrong);
            assert!(said.contains(words), "{wrong}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
