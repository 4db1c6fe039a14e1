//! Puts the eBPF object that `cargo xtask build` made into the agent. Without one the agent still compiles (so that everything that
//! does not need a kernel can be built and tested without the eBPF toolchain) and says at start what it lacks.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=LASTWORDS_EBPF_OBJECT");
    let default = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../target/bpf/lastwords.bpf.o");
    let object = std::env::var_os("LASTWORDS_EBPF_OBJECT").map_or(default, PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(std::env::var("OUT_DIR")?).join("lastwords.bpf.o");
    match std::fs::read(&object) {
        Ok(bytes) => std::fs::write(&embedded, bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::write(&embedded, [])?,
        Err(error) => return Err(format!("cannot read the eBPF object {}: {error}", object.display()).into()),
    }
    Ok(())
}
