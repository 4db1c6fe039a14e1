//! A certificate in files, as cert-manager and others mount and renew it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Shown;

/// How often the files are looked at. They are small, and whoever renews them does it days before the end.
const LOOK: Duration = Duration::from_secs(2);

/// Shows what the files hold now, and again whenever they change. What cannot be used is said once, and the one before stays.
///
/// # Errors
/// A sentence, when they cannot be used at the start.
pub fn follow(
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<Shown>,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let (chain, private) = read(&certificate, &key)?;
    use_them(&chain, &private, &shown).map_err(|error| {
        format!("{} and {} cannot be used: {error}", certificate.display(), key.display())
    })?;
    let mut last = Ok((chain, private));
    Ok(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = read(&certificate, &key);
            if now == last {
                continue;
            }
            let outcome = match &now {
                Ok((chain, private)) => {
                    use_them(chain, private, &shown).map_err(|error| format!("they cannot be used: {error}"))
                }
                Err(sentence) => Err(sentence.clone()),
            };
            match outcome {
                Ok(()) => tracing::info!("the certificate {} was replaced", certificate.display()),
                Err(reason) => tracing::warn!(
                    "the certificate {} changed, and the one before goes on being shown: {reason}",
                    certificate.display()
                ),
            }
            last = now;
        }
    })
}

type Texts = (Vec<u8>, Vec<u8>);

fn read(certificate: &Path, key: &Path) -> Result<Texts, String> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    Ok((read(certificate)?, read(key)?))
}

fn use_them(chain: &[u8], key: &[u8], shown: &Shown) -> Result<(), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| format!("the certificate is no PEM: {error}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in the file".to_owned());
    }
    // The library's error tells which kind of PEM was expected, never what was read.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "there is no private key in the file".to_owned())?;
    shown.replace(chain, key).map_err(|error| error.to_string())
}
