//! Compiles the contract without an installed protoc, so that a fresh machine needs nothing but cargo.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const ROOT: &str = "proto";
const FILES: [&str; 5] = [
    "remotemedia/v1/common.proto",
    "remotemedia/v1/execution.proto",
    "remotemedia/v1/streaming.proto",
    "remotemedia/v1/control.proto",
    "remotemedia/v1/webrtc.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");

    let mut contract = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure()
        // Samples and pixels stay slices of the received message instead of becoming copies of it.
        .bytes(".")
        // Equal messages encode to equal bytes, which the golden files compare; a hash map's order would not.
        .btree_map(".")
        .compile_fds(contract.clone())?;

    // Reflection needs the shape and not the comments, which are most of the bytes.
    for file in &mut contract.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    fs::write(out.join("remotemedia.v1.binpb"), contract.encode_to_vec())?;
    Ok(())
}
