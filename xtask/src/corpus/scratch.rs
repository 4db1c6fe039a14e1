//! What surrounds a case: its folder, and the program that runs beside it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::case::{Case, File};

/// A program beside the container says that it is ready by this file.
const READY: &str = "ready";
/// How long it may take for that.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A case's surroundings; gone when this is dropped.
pub(crate) struct Scratch {
    folder: PathBuf,
    beside: Option<Child>,
}

impl Scratch {
    /// Makes the folder (everybody may enter it), then its files, then runs what comes before, then what runs beside.
    ///
    /// # Errors
    /// When any of that fails.
    pub(crate) fn make(case: &Case, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut scratch = Self { folder, beside: None };
        let folder = scratch.folder.as_path();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).context("cannot open the folder")?;
        for file in &case.files {
            lay_down(folder, file).with_context(|| format!("cannot make {} of {}", file.path, case.name))?;
        }
        if let Some(script) = case.before() {
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).current_dir(folder);
            crate::process::quiet("preparing", &mut shell)
                .with_context(|| format!("what comes before {} failed", case.name))?;
        }
        if let Some((program, arguments)) = case.beside() {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(folder).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            scratch.beside = Some(command.spawn().with_context(|| format!("cannot start {program}"))?);
            scratch.wait_until_ready(&case.name)?;
        }
        Ok(scratch)
    }

    fn wait_until_ready(&self, name: &str) -> Result<()> {
        let started = Instant::now();
        while !self.folder.join(READY).exists() {
            if started.elapsed() > READY_WITHIN {
                bail!("the program beside {name} made no file `{READY}` within {READY_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut beside) = self.beside.take() {
            // Its own process group: a shell's children end with it.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", beside.id())]).status();
            let _ = beside.wait();
        }
        // What was mounted in it goes first.
        while Command::new("umount")
            .args(["--quiet", "--lazy"])
            .arg(self.folder.join("mount"))
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {}
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn lay_down(folder: &Path, file: &File) -> Result<()> {
    let path = folder.join(&file.path);
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let mode = match (&file.mode, file.path.ends_with('/')) {
        (Some(digits), _) => u32::from_str_radix(digits, 8).with_context(|| format!("mode {digits}"))?,
        (None, true) => 0o755,
        (None, false) => 0o644,
    };
    if let Some(target) = &file.link {
        return symlink(target, &path).context("cannot make the link");
    }
    if file.path.ends_with('/') {
        fs::create_dir_all(&path)?;
    } else {
        fs::write(&path, &file.content)?;
    }
    if let Some(owner) = &file.owner {
        let (uid, gid) = owner.split_once(':').unwrap_or((owner, owner));
        chown(&path, Some(uid.parse()?), Some(gid.parse()?))?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("cannot set the mode")
}
