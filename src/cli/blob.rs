//! `keymill blob`: what a ciphertext blob says of itself, without any key.

use crate::cli::failure::{Failure, Status};
use crate::cli::output;
use crate::envelope::blob::{Algorithm, BlobHeader};
use crate::envelope::external::ExternalBlob;
use crate::envelope::{AnyBlob, CiphertextBlob};
use crate::file::open;
use clap::{Args, Subcommand};
use hex_simd::AsciiCase;
use serde_json::json;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A blob has at most 4,214 bytes, 5,620 in base64.
const INPUT_BYTES_MAX: u64 = 8192;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print version, key, generation and nonce of a blob; nothing is verified
    #[command(after_help = "Examples:\n  \
        keymill blob inspect c-1.blob\n  \
        aws kms generate-data-key-without-plaintext --key-id alias/containers --key-spec AES_256 --query CiphertextBlob --output text |\n  \
        keymill blob inspect --json -")]
    Inspect(Inspect),
}

#[derive(Args)]
pub(super) struct Inspect {
    /// The blob, as bytes or in base64; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// The blob itself, in base64
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    base64: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command) -> Result<Status, Failure> {
    let Command::Inspect(arguments) = command;
    let input = match &arguments.base64 {
        Some(text) => text.clone().into_bytes(),
        None => read(&arguments.file)
            .map_err(|error| Failure::failed(format!("{}: {error}", arguments.file.display())))?,
    };
    let bytes = decode(input).ok_or_else(|| {
        Failure::failed("this is not a ciphertext blob of a version that this keymill knows")
    })?;
    let blob = AnyBlob::parse(&bytes).map_err(Failure::failed)?;
    print(&blob, arguments.json)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(open::named(file)?)
    };
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The blob's bytes; a blob begins with a byte that no base64 text has.
fn decode(input: Vec<u8>) -> Option<Vec<u8>> {
    if AnyBlob::parse(&input).is_ok() {
        return Some(input);
    }
    let text = input.trim_ascii();
    let bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
    AnyBlob::parse(&bytes).is_ok().then_some(bytes)
}

fn print(blob: &AnyBlob<'_>, as_json: bool) -> Result<Status, Failure> {
    match blob {
        AnyBlob::Own(blob) => print_own(blob, as_json),
        AnyBlob::External(blob) => print_external(blob, as_json),
    }
}

fn hex(bytes: &[u8]) -> String {
    hex_simd::encode_to_string(bytes, AsciiCase::Lower)
}

fn algorithm(header: BlobHeader) -> &'static str {
    match header.algorithm {
        Algorithm::Xaes256Gcm => "XAES-256-GCM",
        Algorithm::Sm4Gcm => "SM4-GCM",
        Algorithm::External => "XAES-256-GCM and an external key",
    }
}

fn print_own(blob: &CiphertextBlob<'_>, as_json: bool) -> Result<Status, Failure> {
    let header = blob.header();
    let version = blob.bytes()[0];
    // prefix 12 ‖ start 8 ‖ index 4
    let (prefix, rest) = blob.nonce().split_at(12);
    let (start, index) = rest.split_at(8);
    let index = index
        .iter()
        .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let (ciphertext, all) = (blob.ciphertext().len(), blob.bytes().len());
    let (algorithm, key_id) = (algorithm(header), header.key_id.to_string());
    if as_json {
        output::json(&json!({
            "version": version,
            "algorithm": algorithm,
            "key_id": key_id,
            "multi_region": header.key_id.is_multi_region(),
            "generation": header.generation,
            "nonce_prefix": hex(prefix),
            "nonce_start": hex(start),
            "nonce_index": index,
            "ciphertext_bytes": ciphertext,
            "blob_bytes": all,
        }))?;
    } else {
        output::result(&output::columns(&[
            ("version", version.to_string()),
            ("algorithm", algorithm.to_owned()),
            ("key id", key_id),
            ("generation", header.generation.to_string()),
            ("nonce prefix", hex(prefix)),
            ("nonce start", hex(start)),
            ("nonce index", index.to_string()),
            ("ciphertext bytes", ciphertext.to_string()),
            ("blob bytes", all.to_string()),
        ]))?;
    }
    Ok(Status::Done)
}

fn print_external(blob: &ExternalBlob<'_>, as_json: bool) -> Result<Status, Failure> {
    let (header, parts) = (blob.header(), blob.parts());
    let version = blob.bytes()[0];
    let (plaintext, all) = (blob.plaintext_bytes(), blob.bytes().len());
    let (algorithm, key_id) = (algorithm(header), header.key_id.to_string());
    if as_json {
        output::json(&json!({
            "version": version,
            "algorithm": algorithm,
            "key_id": key_id,
            "generation": header.generation,
            "initialization_vector": hex(parts.vector),
            "ciphertext_metadata": hex(parts.metadata),
            "authentication_tag": hex(parts.tag),
            "plaintext_bytes": plaintext,
            "blob_bytes": all,
        }))?;
    } else {
        output::result(&output::columns(&[
            ("version", version.to_string()),
            ("algorithm", algorithm.to_owned()),
            ("key id", key_id),
            ("generation", header.generation.to_string()),
            ("initialization vector", hex(parts.vector)),
            ("ciphertext metadata", hex(parts.metadata)),
            ("authentication tag", hex(parts.tag)),
            ("plaintext bytes", plaintext.to_string()),
            ("blob bytes", all.to_string()),
        ]))?;
    }
    Ok(Status::Done)
}
