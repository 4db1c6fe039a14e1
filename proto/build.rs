//! Compiles `lastwords/v1/*.proto` without protoc (protox is a compiler in Rust) and keeps the descriptor set, which reflection,
//! the JSON mapping and the golden test of field numbers need.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=lastwords");
    let descriptors = protox::compile(
        ["lastwords/v1/crash.proto", "lastwords/v1/ingest.proto", "lastwords/v1/query.proto"],
        ["."],
    )?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
