//! Whether the images are of use: a real containerd, with folders of its own, imports each archive and runs its program.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{MOST_BYTES, Made, rights};
use crate::{process, workspace};

/// Two busy processors may need this long.
const START: Duration = Duration::from_secs(60);

/// A containerd that ends with this value, and its folder with it.
pub(super) struct Containerd {
    process: Child,
    folder: PathBuf,
    path: OsString,
}

impl Containerd {
    /// Starts one; None when `setup` could not bring it.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(folder: PathBuf) -> Result<Option<Self>> {
        let programs = workspace::cached_programs()?;
        if !programs.join("containerd").exists() {
            return Ok(None);
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let configuration = folder.join("config.toml");
        fs::write(&configuration, configured(&folder)).context("cannot configure containerd")?;
        let mut path = programs.clone().into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let log = fs::File::create(folder.join("log")).context("cannot make a log for containerd")?;
        let process = Command::new(programs.join("containerd"))
            .arg("--config")
            .arg(&configuration)
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start containerd")?;
        let this = Self { process, folder, path };
        let until = Instant::now() + START;
        while this.ask(&["version"]).is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(this.folder.join("log")).unwrap_or_default();
                bail!("containerd does not get ready:\n{}", process::last_lines(&log, 10));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(Some(this))
    }

    /// Imports the image and runs its program with `--version`, which must answer with its name and version.
    ///
    /// # Errors
    /// When the archive is not taken, is too large, or the program does not run in it.
    pub(super) fn try_out(&self, made: &Made) -> Result<()> {
        if made.bytes > MOST_BYTES {
            bail!("{} has {} bytes, more than {MOST_BYTES}", made.archive.display(), made.bytes);
        }
        let archive = made.archive.to_string_lossy();
        self.ask(&["images", "import", &archive])?;
        let listed = self.ask(&["images", "list", "--quiet"])?;
        if !listed.lines().any(|name| name == made.name) {
            bail!("{} was imported, and {} is not there:\n{listed}", archive, made.name);
        }
        let program = format!("/usr/bin/{}", made.program);
        let said = self.ask(&["run", "--rm", &made.name, made.program, &program, "--version"])?;
        if said.trim() != format!("{} {}", made.program, env!("CARGO_PKG_VERSION")) {
            bail!("{} --version in its image says {said:?}", made.program);
        }
        Ok(())
    }

    /// Runs the agent's check with no more rights than the DaemonSet gives it; it must find that crashes can be recorded.
    ///
    /// # Errors
    /// When it does not, with what it says.
    pub(super) fn try_rights(&self, agent: &Made) -> Result<()> {
        let options = rights::as_options()?;
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(options.iter().map(String::as_str));
        arguments.extend([&agent.name, "rights", "/usr/bin/lastwords-agent", "check"]);
        let said = self.ask(&arguments)?;
        if !said.contains("Crashes can be recorded here.") {
            bail!("lastwords-agent check says {said}");
        }
        Ok(())
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut ctr = Command::new(workspace::cached_programs()?.join("ctr"));
        ctr.arg("--address").arg(self.folder.join("socket")).args(arguments).env("PATH", &self.path);
        process::quiet(&format!("ctr {}", arguments.join(" ")), &mut ctr)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Asked to stop it lets go of its mounts; without an answer there is nothing more to do for it.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Nothing of it outside the folder, and no part of it that talks to a kubelet.
fn configured(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{folder}/socket\"\n"
    )
}
