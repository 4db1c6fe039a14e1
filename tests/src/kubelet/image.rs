//! Images: root file systems in a directory each, made of busybox and whatever else is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The image that is always there.
pub const BUSYBOX_IMAGE: &str = "localhost/busybox:1";

/// Where a Debian machine with busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";

/// The images of a node, by name.
#[derive(Debug, Clone, Default)]
pub struct Images {
    roots: BTreeMap<String, PathBuf>,
}

impl Images {
    /// Knows the given directories, and makes the busybox image below `directory` with the host's `programs` in it.
    ///
    /// # Errors
    /// When busybox is missing or not static, a program cannot be copied, or a directory does not exist.
    pub fn prepare(
        directory: &Path,
        programs: &[PathBuf],
        given: &[(String, PathBuf)],
    ) -> anyhow::Result<Images> {
        let root = directory.join("busybox");
        build_busybox(&root)
            .with_context(|| format!("the busybox image cannot be made in {}", root.display()))?;
        for program in programs {
            add_program(&root, program).with_context(|| format!("{} cannot be added", program.display()))?;
        }
        let mut images = Images::default();
        images.roots.insert(BUSYBOX_IMAGE.to_owned(), root);
        for (name, root) in given {
            let root =
                root.canonicalize().with_context(|| format!("the image {name}: {}", root.display()))?;
            images.roots.insert(name.clone(), root);
        }
        Ok(images)
    }

    /// The root file system of an image; `None` when this node does not have it.
    pub fn root(&self, image: &str) -> Option<&Path> {
        self.roots.get(image).map(PathBuf::as_path)
    }
}

/// The `imageID` of an image: made of its name, since nothing here has a digest.
pub fn image_id(image: &str) -> String {
    let part = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, image).hash(&mut hasher);
        hasher.finish()
    };
    format!("sha256:{:016x}{:016x}{:016x}{:016x}", part(0), part(1), part(2), part(3))
}

fn build_busybox(root: &Path) -> anyhow::Result<()> {
    if !Path::new(BUSYBOX).exists() {
        bail!("{BUSYBOX} is missing: install busybox-static (`cargo xtask setup` does)");
    }
    // A link farm left by an earlier run is complete or absent: it is made under another name first.
    if root.exists() {
        return Ok(());
    }
    let new = root.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    for directory in [
        "bin", "dev", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "srv", "sys", "tmp",
        "usr/bin", "usr/lib", "var/lib", "var/log", "var/run",
    ] {
        fs::create_dir_all(new.join(directory))?;
    }
    fs::set_permissions(new.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy(BUSYBOX, new.join("bin/busybox"))?;
    let applets = Command::new(BUSYBOX).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&applets.stdout)
        .lines()
        .filter(|applet| !applet.is_empty() && *applet != "busybox")
    {
        symlink("busybox", new.join("bin").join(applet))?;
    }
    fs::write(
        new.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    fs::write(new.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    fs::rename(&new, root)?;
    Ok(())
}

/// Copies a program of the host with the shared libraries that `ldd` names, each to its own path.
fn add_program(root: &Path, program: &Path) -> anyhow::Result<()> {
    copy_into(root, program)?;
    let listed = Command::new("ldd").arg(program).output().context("ldd")?;
    // A static program has none, and ldd says so with a failure.
    for word in
        String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        copy_into(root, Path::new(word.trim_end_matches(':')))?;
    }
    Ok(())
}

fn copy_into(root: &Path, file: &Path) -> anyhow::Result<()> {
    let target = root.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(file, &target).with_context(|| format!("{} to {}", file.display(), target.display()))?;
    Ok(())
}
