//! The aggregator's own certificate authority and the certificates it gives. Time is an argument.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const DAY: Duration = Duration::from_secs(86_400);
/// Whoever verifies has it from a ConfigMap that follows a new one, so its length is that of a cluster rather than of a secret.
const AUTHORITY: Duration = DAY.saturating_mul(3650);
/// What an authority must have left to be used on.
const AUTHORITY_LEFT: Duration = DAY.saturating_mul(365);
/// A certificate lives only in the memory of one process, which makes the next one in time.
const LEAF: Duration = DAY.saturating_mul(30);
/// Clocks of nodes differ.
const SKEW: Duration = Duration::from_secs(3600);

/// An authority: its certificate and its key. Its `Debug` tells no key.
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

/// A certificate with its key, to be shown.
pub struct Leaf {
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When the next one has to be there: after two thirds of its life.
    pub renew_at: SystemTime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn new(now: SystemTime) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Lastwords aggregator authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - SKEW).into();
        params.not_after = (now + AUTHORITY).into();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key })
    }

    /// From what was kept.
    ///
    /// # Errors
    /// A sentence without any of the key, when it cannot be used, or not for long any more.
    pub fn from_pem(certificate: &str, key: &str, now: SystemTime) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|_| "its key is none".to_owned())?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| "its certificate is none".to_owned())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| "its certificate cannot be understood".to_owned())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("its key is not that of its certificate".to_owned());
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        if SystemTime::UNIX_EPOCH + Duration::from_secs(until) < now + AUTHORITY_LEFT {
            return Err("its certificate ends within a year".to_owned());
        }
        Ok(Self { certificate: certificate.to_owned(), key })
    }

    /// Its certificate, PEM: what everybody may know.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// A certificate for a server of these names and addresses.
    ///
    /// # Errors
    /// When one of the names is none.
    pub fn issue(&self, names: &[String], now: SystemTime) -> Result<Leaf, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "lastwords-aggregator");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LEAF).into();
        let chain = vec![params.signed_by(&key, &issuer)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Leaf { chain, key, renew_at: now + LEAF * 2 / 3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_gives_certificates_again() {
        let now = SystemTime::now();
        let made = Authority::new(now).unwrap();
        let kept = Authority::from_pem(made.certificate(), &made.key(), now).unwrap();
        let leaf = kept.issue(&["localhost".to_owned(), "127.0.0.1".to_owned()], now).unwrap();
        assert_eq!(leaf.renew_at, now + DAY * 20);
        let authority = CertificateDer::from_pem_slice(made.certificate().as_bytes()).unwrap();
        let (_, authority) = x509_parser::parse_x509_certificate(&authority).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf.chain[0]).unwrap();
        assert_eq!(leaf.issuer().to_string(), authority.subject().to_string());
    }

    #[test]
    fn an_authority_near_its_end_or_with_another_key_is_not_used() {
        let now = SystemTime::now();
        let (made, other) = (Authority::new(now).unwrap(), Authority::new(now).unwrap());
        let error = Authority::from_pem(made.certificate(), &other.key(), now).unwrap_err();
        assert!(error.contains("not that of its certificate"), "{error}");
        let late = now + DAY * 3300;
        let error = Authority::from_pem(made.certificate(), &made.key(), late).unwrap_err();
        assert!(error.contains("within a year"), "{error}");
        assert!(Authority::from_pem(made.certificate(), "", now).is_err());
        assert!(Authority::from_pem("", &made.key(), now).is_err());
    }

    #[test]
    fn the_key_is_in_no_debug_text() {
        let made = Authority::new(SystemTime::now()).unwrap();
        let key = made.key();
        assert!(!format!("{made:?}").contains(key.lines().nth(1).unwrap()));
    }
}
