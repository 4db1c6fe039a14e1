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

/// Where the sandbox's program lies in the image, as in the runtimes' own pause images.
pub(super) const PAUSE: &str = "/pause";

/// An ELF program for x86-64 that calls pause(2) for ever. It is known for what it is by its name, which busybox could not bear.
const PAUSE_PROGRAM: &[u8] = &[
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little endian
    2, 0, 0x3e, 0, 1, 0, 0, 0, // an executable for x86-64
    0x78, 0, 0x40, 0, 0, 0, 0, 0, // entry: right behind the headers
    0x40, 0, 0, 0, 0, 0, 0, 0, // program headers begin after this header
    0, 0, 0, 0, 0, 0, 0, 0, // no section headers
    0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0, 0, // sizes; one program header
    1, 0, 0, 0, 5, 0, 0, 0, // load, readable and executable
    0, 0, 0, 0, 0, 0, 0, 0, // from the start of the file
    0, 0, 0x40, 0, 0, 0, 0, 0, // to 0x400000
    0, 0, 0x40, 0, 0, 0, 0, 0, //
    0x81, 0, 0, 0, 0, 0, 0, 0, // the whole file
    0x81, 0, 0, 0, 0, 0, 0, 0, //
    0, 0x10, 0, 0, 0, 0, 0, 0, // in pages
    0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7, // mov $34, %eax; syscall; jmp to the first
];

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
    let pause = new.join(PAUSE.trim_start_matches('/'));
    fs::write(&pause, PAUSE_PROGRAM)?;
    fs::set_permissions(&pause, fs::Permissions::from_mode(0o755))?;
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
