//! Where crashes are kept, as `--store` names it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Kind, Postgres, Retention, Sqlite, Store, StoreError};

/// A store's address.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
    /// `postgres://…`, whole: it may hold a password.
    Postgres(String),
}

impl Place {
    /// Opens the store, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be reached or written, is something else, or was written by a newer program.
    pub async fn open(&self, retention: Retention) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::Postgres(url) => Ok(Arc::new(Postgres::open(url, retention).await?)),
            Self::Sqlite(path) => {
                let path = path.clone();
                let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, retention)).await;
                let ended = |error: tokio::task::JoinError| StoreError::new(Kind::Failed, error.to_string());
                Ok(Arc::new(opened.map_err(ended)??))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            // What follows the scheme up to the last @ may be a password; so may a parameter.
            Self::Postgres(url) => {
                let server = url.rsplit_once('@').map_or(url.as_str(), |(_, server)| server);
                let server = server.split('?').next().unwrap_or_default();
                write!(
                    formatter,
                    "postgres://{}",
                    server.trim_start_matches("postgres://").trim_start_matches("postgresql://")
                )
            }
        }
    }
}

/// As it is displayed: settings are printed and compared in full.
impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn the_password_is_not_shown() {
        for (url, shown) in [
            ("postgres://u:se@cret@db:5432/l?password=secret", "postgres://db:5432/l"),
            ("postgresql://db/l", "postgres://db/l"),
        ] {
            let place = Place::Postgres(url.to_owned());
            assert_eq!((format!("{place}"), format!("{place:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}
