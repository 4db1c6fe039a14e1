//! The sections `[tls]` and `[authorization]`: what they are when they say nothing depends on who could reach the port.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::Reader;
use crate::tls::{Mode, Own};

/// The agents' service account, unless told otherwise.
pub(super) const AGENT_ACCOUNT: &str = "lastwords-agent";

impl Reader {
    pub(super) fn tls(&mut self, table: &mut Table, listen: SocketAddr, kubernetes: bool) -> Mode {
        let mode = self.text(table, "tls", "mode");
        let certificate = self.text(table, "tls", "certificate").map(PathBuf::from);
        let key = self.text(table, "tls", "key").map(PathBuf::from);
        let default = Own::default();
        let own = Own {
            names: self.texts(table, "tls", "names"),
            secret: self.text(table, "tls", "secret").unwrap_or(default.secret),
            config_map: self.text(table, "tls", "config_map").unwrap_or(default.config_map),
        };
        let mode = mode.as_deref().or((certificate.is_some() || key.is_some()).then_some("files"));
        match (mode, certificate, key) {
            (Some("files"), Some(certificate), Some(key)) => Mode::Files { certificate, key },
            (Some("files"), ..) => {
                self.problem("tls.mode \"files\" needs both tls.certificate and tls.key");
                Mode::Off
            }
            (Some("own"), None, None) if kubernetes => Mode::Own(own),
            (Some("own"), None, None) => {
                self.problem(
                    "tls.mode \"own\" keeps its authority in the cluster, and there is none: use \"files\" with tls.certificate and tls.key",
                );
                Mode::Off
            }
            (Some("off"), None, None) => Mode::Off,
            (Some("own" | "off"), ..) => {
                self.problem("tls.certificate and tls.key go with tls.mode \"files\"");
                Mode::Off
            }
            (Some(other), ..) => {
                self.problem(&format!("tls.mode has to be \"own\", \"files\" or \"off\", not {other:?}"));
                Mode::Off
            }
            (None, ..) if listen.ip().is_loopback() => Mode::Off,
            (None, ..) if kubernetes => Mode::Own(own),
            (None, ..) => {
                self.problem(&format!(
                    "{listen} can be reached from other machines, and without Kubernetes there is no certificate: set tls.certificate and tls.key, or listen on 127.0.0.1 (--listen), or set tls.mode = \"off\""
                ));
                Mode::Off
            }
        }
    }

    /// The agents' service account, where callers and agents have to prove who they are.
    pub(super) fn authorization(
        &mut self,
        table: &mut Table,
        listen: SocketAddr,
        kubernetes: bool,
    ) -> Option<String> {
        let account = self.text(table, "authorization", "agent_service_account");
        let default = kubernetes && !listen.ip().is_loopback();
        let enabled = self.switch(table, "authorization", "enabled", default);
        if enabled && !kubernetes {
            self.problem("authorization.enabled needs Kubernetes, which knows who may read what");
        }
        enabled.then(|| account.unwrap_or_else(|| AGENT_ACCOUNT.to_owned()))
    }

    fn texts(&mut self, table: &mut Table, section: &str, key: &str) -> Vec<String> {
        let texts = match self.take(table, section, key) {
            None => Some(Vec::new()),
            Some(Value::Array(values)) => {
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        texts.unwrap_or_else(|| {
            self.problem(&format!("{section}.{key} has to be a list of texts such as [\"a\", \"b\"]"));
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;
    use crate::config::{Settings, settings};
    use crate::tls::{Mode, Own};

    fn with(text: &str, more: &[&str]) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("aggregator.toml");
        std::fs::write(&file, text).unwrap();
        let mut line = vec!["lastwords-aggregator", "--config", file.to_str().unwrap()];
        line.extend(more);
        settings(&Args::parse_from(line)).map_err(|problems| problems.join("\n"))
    }

    #[test]
    fn in_a_cluster_all_is_closed_unless_opened() {
        let settings = with("", &[]).unwrap();
        assert_eq!(settings.tls, Mode::Own(Own::default()));
        assert_eq!(settings.authorization.as_deref(), Some("lastwords-agent"));
        let opened = with("[tls]\nmode = 'off'\n[authorization]\nenabled = false\n", &[]).unwrap();
        assert_eq!((opened.tls, opened.authorization), (Mode::Off, None));
        let plain = with("[tls]\nmode = 'off'\n", &[]).unwrap();
        assert!(plain.authorization.is_some(), "plain text alone opens nothing");
    }

    #[test]
    fn on_loopback_all_is_open_unless_closed() {
        for line in [&["--listen", "127.0.0.1:0", "--no-kubernetes"][..], &["--listen", "[::1]:0"]] {
            let settings = with("", line).unwrap();
            assert_eq!((settings.tls, settings.authorization), (Mode::Off, None));
        }
        let closed = "[tls]\nmode = 'own'\nnames = ['a.example']\nsecret = 's'\nconfig_map = 'm'\n\
                      [authorization]\nenabled = true\nagent_service_account = 'x/y'\n";
        let closed = with(closed, &["--listen", "127.0.0.1:0"]).unwrap();
        let own =
            Own { names: vec!["a.example".to_owned()], secret: "s".to_owned(), config_map: "m".to_owned() };
        assert_eq!((closed.tls, closed.authorization.as_deref()), (Mode::Own(own), Some("x/y")));
    }

    #[test]
    fn without_a_cluster_nothing_is_open_to_other_machines_by_accident() {
        let refused = with("", &["--no-kubernetes"]).unwrap_err();
        assert!(refused.contains("tls.certificate and tls.key") && refused.contains("--listen"), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        let opened = with("[tls]\nmode = 'off'\n", &["--no-kubernetes"]).unwrap();
        assert_eq!((opened.tls, opened.authorization), (Mode::Off, None));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (text, said) in [
            ("[tls]\nmode = 'self'\n", "has to be \"own\", \"files\" or \"off\""),
            ("[tls]\ncertificate = '/c'\n", "needs both"),
            ("[tls]\nmode = 'own'\nkey = '/k'\ncertificate = '/c'\n", "go with"),
            ("[tls]\nmode = 'own'\n[kubernetes]\nenabled = false\n", "there is none"),
            ("[tls]\nmode = 'off'\nnames = 'a'\n", "list of texts"),
            (
                "listen = '127.0.0.1:1'\n[authorization]\nenabled = true\n[kubernetes]\nenabled = false\n",
                "needs Kubernetes",
            ),
        ] {
            let problem = with(text, &[]).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{text}: {problem}");
        }
    }
}
