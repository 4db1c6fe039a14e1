//! An image archive in the two forms that runtimes read, in one file: an OCI layout (containerd, podman) and the `manifest.json` of
//! `docker save`. Both point at the same blobs. The whole is compressed, so the layer inside is not.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

/// An image of one layer.
pub(super) struct Image {
    /// The whole name, tag included.
    pub(super) name: String,
    /// The layer's tar archive.
    pub(super) layer: Vec<u8>,
    /// How the container is started.
    pub(super) config: Value,
}

/// Something that is known by its digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest, bytes }
    }

    fn of(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

impl Image {
    /// Writes the archive and returns the digest of its manifest, `sha256:…`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<String> {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let layer = Blob::new(self.layer.clone());
        let config = Blob::of(&json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image"}],
        }));
        let manifest = Blob::of(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }));
        let mut entry = manifest.descriptor(MANIFEST);
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit(':').next(),
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let docker = json!([{"Config": config.path(), "RepoTags": [self.name], "Layers": [layer.path()]}]);

        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        // Whoever loads an image waits for it longer than we do here.
        let compressed = GzBuilder::new().mtime(0).write(file, Compression::best());
        let mut archive = Builder::new(compressed);
        add(&mut archive, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        add(&mut archive, "index.json", index.to_string().as_bytes())?;
        add(&mut archive, "manifest.json", docker.to_string().as_bytes())?;
        for blob in [&manifest, &config, &layer] {
            add(&mut archive, &blob.path(), &blob.bytes)?;
        }
        archive
            .into_inner()
            .and_then(flate2::write::GzEncoder::finish)
            .and_then(|mut file| file.flush())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(format!("sha256:{}", manifest.digest))
    }
}

fn add(archive: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("cannot add {name}"))
}
