//! A real PostgreSQL server of a test's own: its files in a temporary directory, its port a free one of the loopback.

#![allow(clippy::unwrap_used, reason = "this file is part of a test")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// PostgreSQL refuses to run as root, and Debian's package makes this user.
const USER: &str = "postgres";
/// A loaded machine takes seconds to write a new cluster.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with the test.
pub(crate) struct Server {
    programs: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// Starts one, or says `SKIPPED test: why`.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some((programs, user)) = newest_programs().zip(user()) else {
            println!("SKIPPED {test}: PostgreSQL is not installed; `cargo xtask setup` installs it");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { programs, directory, port, process: None };
        let password = server.file("password");
        fs::write(&password, "secret").unwrap();
        self_signed(&server.file("server"));
        self_signed(&server.file("other"));
        for path in [".", "password", "server.crt", "server.key"] {
            chown(server.file(path), Some(user.0), Some(user.1)).unwrap();
        }
        let made = server
            .command("initdb")
            .args(["--auth=scram-sha-256", "--username=lastwords", "--no-sync", "--pwfile"])
            .args([&password, Path::new("-D"), &server.file("data")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run();
        Some(server)
    }

    /// Runs it, and waits until it answers.
    pub(crate) fn run(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.file("log")).unwrap();
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.directory.path().display()),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", self.file("server.crt").display()),
            format!("ssl_key_file={}", self.file("server.key").display()),
        ];
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.file("data"));
        settings.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let patience = Instant::now() + PATIENCE;
        while !self.psql("postgres", "SELECT 1").status.success() {
            let log = fs::read_to_string(self.file("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "PostgreSQL did not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As a machine that loses its power: nothing is finished.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // SIGQUIT: its processes end at once, without a checkpoint; SIGKILL would leave them and their shared memory behind.
        let quit = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status().unwrap();
        assert!(quit.success());
        process.wait().unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A new database of this name, as an address.
    pub(crate) fn database(&self, name: &str) -> String {
        // PostgreSQL cuts names at 63 bytes.
        let name = name.get(..40).unwrap_or(name);
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://lastwords:secret@127.0.0.1:{}/{name}", self.port)
    }

    pub(crate) fn execute(&self, database: &str, statement: &str) {
        self.query(database, statement);
    }

    /// What it answers, without headings.
    pub(crate) fn query(&self, database: &str, statement: &str) -> String {
        let output = self.psql(database, statement);
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The server's own certificate, which is its own authority.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.file("server.crt")
    }

    /// One that the server does not have.
    pub(crate) fn another_certificate(&self) -> PathBuf {
        self.file("other.crt")
    }

    fn psql(&self, database: &str, statement: &str) -> std::process::Output {
        Command::new(self.programs.join("psql"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "lastwords",
                "-XAtq",
                "-d",
                database,
            ])
            .args(["-c", statement])
            .env("PGPASSWORD", "secret")
            .output()
            .unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(self.programs.join(program));
        command.current_dir(self.directory.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `/usr/lib/postgresql/15/bin`.
fn newest_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> =
        versions.filter_map(Result::ok).map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| folder.join("initdb").is_file());
    folders.sort();
    folders.pop()
}

/// The numbers of the user and its group; None where there is no such user or we cannot become it.
fn user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with(&format!("{USER}:")))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    let ids = (fields.next()?.ok()?, fields.next()?.ok()?);
    let may =
        Command::new("setpriv").args(["--reuid", USER, "--regid", USER, "--clear-groups", "true"]).status();
    may.is_ok_and(|status| status.success()).then_some(ids)
}

/// `PATH.crt` and `PATH.key` for the loopback address.
fn self_signed(path: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(path.with_extension("crt"))
        .arg("-keyout")
        .arg(path.with_extension("key"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::set_permissions(path.with_extension("key"), fs::Permissions::from_mode(0o600)).unwrap();
}
