//! `cargo xtask image`: container images as archives that `ctr images import`, `docker load` and `podman load` accept.
//!
//! No registry, no engine and no base image: an image is one layer with one program, the shared libraries that it is linked
//! against, and what those look up. No shell, no package manager. The same sources and libraries give the same bytes.

mod archive;
mod bill;
#[cfg(test)]
mod dockerfile;
mod layer;
mod libraries;
mod plugin;
mod rights;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use self::archive::Image;
use self::layer::Layer;
use self::plugin::Plugin;
use crate::build::Build;
use crate::output::Output;
use crate::setup::Setup;
use crate::test::Outcome;
use crate::{process, table, workspace};

/// Where a runtime looks for an image that nobody publishes: the name says that it came from nowhere else.
const REGISTRY: &str = "localhost";

/// An image larger than this has something in it that does not belong there (bytes, as the archive that is downloaded).
const MOST_BYTES: u64 = 25 << 20;

/// A user that owns nothing on any node, as in other images without a shell.
const NOBODY: &str = "65532:65532";

/// What an image is made of.
struct Recipe {
    program: &'static str,
    arguments: &'static [&'static str],
    user: &'static str,
    title: &'static str,
}

const AGENT: &str = "lastwords-agent";

const RECIPES: &[Recipe] = &[
    Recipe {
        program: AGENT,
        arguments: &["run"],
        // It loads eBPF programs and looks into other users' processes; which capabilities are left to it is the manifest's to say.
        user: "0:0",
        title: "Lastwords agent",
    },
    Recipe { program: "lastwords-aggregator", arguments: &[], user: NOBODY, title: "Lastwords aggregator" },
    Recipe { program: "lastwords", arguments: &[], user: NOBODY, title: "Lastwords command line" },
];

/// Put the release programs into container images, target/image/*.tar.gz, and the command line into a plugin for krew.
#[derive(Args)]
pub(crate) struct Images {
    /// What stands before the images' names, a registry and a folder in it.
    #[arg(long, default_value = REGISTRY)]
    registry: String,
    /// Take the programs in target/release as they are.
    #[arg(long)]
    no_build: bool,
    /// Have a real containerd import each and run its program.
    #[arg(long)]
    trial: bool,
    /// How to print what was made.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// An image that was written.
struct Made {
    /// Its whole name, tag included.
    name: String,
    /// What its entry point is.
    program: &'static str,
    /// Where it is.
    archive: PathBuf,
    /// How many bytes that has.
    bytes: u64,
    /// The manifest's digest.
    digest: String,
}

impl Images {
    /// Builds the programs where need be, writes the archives and says what they are.
    pub(crate) fn run(self) -> Result<()> {
        if !self.no_build {
            Setup::for_build().run()?;
            Build::everything().compile()?;
        }
        let made = write(&self.registry)?;
        let plugin = plugin::write(&folder()?)?;
        if self.trial {
            let outcome = try_out(&made, &plugin)?;
            if let Some(problem) = outcome.failures.iter().chain(&outcome.skipped).next() {
                bail!("{problem}");
            }
        }
        match self.output {
            Output::Json => {
                let images: Vec<_> = made
                    .iter()
                    .map(|made| {
                        json!({"name": made.name, "archive": made.archive, "bytes": made.bytes, "digest": made.digest})
                    })
                    .collect();
                let plugin = json!({"archive": plugin.archive, "manifest": plugin.manifest});
                println!("{}", json!({ "images": images, "plugin": plugin }));
            }
            Output::Text => {
                let mut rows = vec![["image", "MB", "digest", "archive"].map(str::to_owned).to_vec()];
                rows.extend(made.iter().map(|made| {
                    let archive = made.archive.strip_prefix(workspace::root()).unwrap_or(&made.archive);
                    let megabytes = format!("{:.1}", made.bytes as f64 / 1e6);
                    vec![made.name.clone(), megabytes, made.digest.clone(), archive.display().to_string()]
                }));
                println!("{}", table::render(&rows));
                let manifest = plugin.manifest.strip_prefix(workspace::root()).unwrap_or(&plugin.manifest);
                println!("krew's manifest of `kubectl lastwords`: {}", manifest.display());
            }
        }
        Ok(())
    }
}

/// Writes the images and has a real containerd import and run each.
///
/// # Errors
/// When they cannot be written, or containerd does not get ready.
pub(crate) fn trial() -> Result<Outcome> {
    try_out(&write(REGISTRY)?, &plugin::write(&folder()?)?)
}

fn try_out(made: &[Made], plugin: &Plugin) -> Result<Outcome> {
    let mut outcome = try_out_images(made)?;
    let folder = std::env::temp_dir().join(format!("lastwords-plugin-{}", std::process::id()));
    match plugin.try_out(&folder) {
        Ok(true) => outcome.passed += 1,
        Ok(false) => outcome.skipped.push("kubectl lastwords: kubectl is not in the cache".to_owned()),
        Err(error) => outcome.failures.push(format!("kubectl lastwords: {error:#}")),
    }
    Ok(outcome)
}

fn try_out_images(made: &[Made]) -> Result<Outcome> {
    // A socket's path may have 108 bytes: not below a target folder that may lie anywhere.
    let folder = std::env::temp_dir().join(format!("lastwords-containerd-{}", std::process::id()));
    let Some(containerd) = trial::Containerd::start(folder)? else {
        let reason = "containerd is not in the cache; `cargo xtask setup` brings it";
        let skipped = made.iter().map(|made| format!("image {}: {reason}", made.name)).collect();
        return Ok(Outcome { skipped, ..Outcome::default() });
    };
    let mut outcome = Outcome::default();
    let mut count = |what: String, result: Result<()>| match result {
        Ok(()) => outcome.passed += 1,
        Err(error) => outcome.failures.push(format!("{what}: {error:#}")),
    };
    for image in made {
        count(format!("image {}", image.name), containerd.try_out(image));
    }
    if let Some(agent) = made.iter().find(|image| image.program == AGENT) {
        count("the agent with the DaemonSet's rights".to_owned(), containerd.try_rights(agent));
    }
    Ok(outcome)
}

/// Writes every image of the programs that stand there, with a bill of materials beside each.
fn write(registry: &str) -> Result<Vec<Made>> {
    let folder = folder()?;
    RECIPES.iter().map(|recipe| recipe.write(registry, &folder)).collect()
}

fn folder() -> Result<PathBuf> {
    let folder = workspace::target().join("image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

impl Recipe {
    fn write(&self, registry: &str, folder: &Path) -> Result<Made> {
        let program = workspace::programs().join(self.program);
        let mut layer = Layer::new();
        layer.program(&format!("usr/bin/{}", self.program), &program)?;
        for library in libraries::of(&program)? {
            layer.program(library.trim_start_matches('/'), Path::new(&library))?;
        }
        // Who the user is called and that names are looked up by DNS too: the C library asks for both.
        layer.text(
            "etc/passwd",
            "root:x:0:0:root:/:/sbin/nologin\nlastwords:x:65532:65532::/:/sbin/nologin\n",
        )?;
        layer.text("etc/group", "root:x:0:\nlastwords:x:65532:\n")?;
        layer.text("etc/nsswitch.conf", "hosts: files dns\n")?;
        layer.folder("tmp", 0o1777)?;
        layer.folder("var/lib/lastwords", 0o700)?;
        for licence in ["LICENSE", "LICENSE-MIT", "LICENSE-GPL-2.0"] {
            layer.file(&format!("usr/share/doc/lastwords/{licence}"), &workspace::root().join(licence))?;
        }
        let version = env!("CARGO_PKG_VERSION");
        let image = Image {
            name: format!("{registry}/{}:{version}", self.program),
            layer: layer.finish()?,
            config: json!({
                "Entrypoint": [format!("/usr/bin/{}", self.program)],
                "Cmd": self.arguments,
                "User": self.user,
                "Env": ["PATH=/usr/bin"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.title": self.title,
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
                    "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                    "org.opencontainers.image.revision": revision(),
                },
            }),
        };
        let archive = folder.join(format!("{}-{version}-amd64.tar.gz", self.program));
        let digest = image.write(&archive)?;
        bill::write(self.program, &folder.join(format!("{}-{version}-amd64.cdx.json", self.program)))?;
        let bytes = fs::metadata(&archive).context("the archive is gone")?.len();
        Ok(Made { name: image.name, program: self.program, archive, bytes, digest })
    }
}

/// The commit that the programs come from; empty outside a repository.
fn revision() -> String {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["rev-parse", "HEAD"]);
    process::answer(&mut git).unwrap_or_default()
}
