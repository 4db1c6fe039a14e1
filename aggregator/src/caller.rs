//! Who calls: what a token or a certificate says of it.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

/// Longest token taken, in bytes: those of large identity providers have some kilobytes.
const MAX_TOKEN: usize = 16 << 10;
/// Everybody who proved to be somebody is in it; of a certificate the API server says it itself, so it has to be said here.
const AUTHENTICATED: &str = "system:authenticated";

/// A user, as the Kubernetes API speaks of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    /// The name.
    pub name: String,
    /// Tells apart users who had the same name one after the other.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user whom a client certificate names: the common name, with the organisations as groups. None without a name.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
        let organisations = subject.iter_organization().map(|group| group.as_str().map(str::to_owned));
        // A group that cannot be read may be the one that is denied something.
        let mut groups: Vec<String> = organisations.collect::<Result<_, _>>().ok()?;
        groups.push(AUTHENTICATED.to_owned());
        (!name.is_empty()).then(|| Self { name, groups, ..Self::default() })
    }
}

/// The bearer token of a request. None without one; what is no token of a believable length counts as none.
pub fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let believable = !token.is_empty() && token.len() <= MAX_TOKEN;
    (scheme.eq_ignore_ascii_case("bearer") && believable).then_some(token)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn tokens_of_requests() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", text.parse().unwrap());
            bearer(&metadata).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc").as_deref(), Some("abc"));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("Bearer"), None);
        assert_eq!(of("Bearer "), None);
        assert_eq!(of(&format!("Bearer {}", "x".repeat(MAX_TOKEN + 1))), None);
        assert_eq!(bearer(&MetadataMap::new()), None);
    }

    #[test]
    fn a_certificate_names_a_user_and_groups() {
        let user = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, name) in names {
                params.distinguished_name.push(kind.clone(), *name);
            }
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            User::from_certificate(certificate.der())
        };
        let admin =
            user(&[(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "kubernetes-admin")]);
        let admin = admin.unwrap();
        assert_eq!(
            (admin.name.as_str(), admin.groups),
            ("kubernetes-admin", vec!["system:masters".to_owned(), "system:authenticated".to_owned()])
        );
        assert_eq!(user(&[(DnType::OrganizationName, "system:masters")]), None);
        assert_eq!(user(&[(DnType::CommonName, "")]), None);
        assert_eq!(User::from_certificate(&CertificateDer::from(vec![0x30, 0x82])), None);
    }
}
