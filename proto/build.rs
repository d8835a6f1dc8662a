//! Compiles the protocol buffers with protox, so that no `protoc` is needed.
use prost::Message;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "paceline/v1/common.proto",
    "paceline/v1/worker_service.proto",
    "paceline/v1/run_service.proto",
    "paceline/v1/checkpoint_service.proto",
    "paceline/v1/fleet_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("paceline.binpb"), descriptors.encode_to_vec())?;
    // Names, so that the codec knows what it decodes.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    let services = tonic_prost_build::configure().bytes(".").codec_path("crate::wire::Codec");
    services.compile_fds_with_config(descriptors, config)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
