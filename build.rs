//! Links mail-dissect statically, as a position-independent program, where the C library is there for that.
//!
//! People run mail-dissect once a message, and then most of its time goes into being started: with the C library inside
//! it starts in little more than the time of `true`, with shared libraries it takes nearly twice as long. The other
//! programs look up names, which glibc does with shared libraries only, and stay as they are.
//!
//! Cargo has flags for all programs of a package or for none, so this says for one what `-C target-feature=+crt-static`
//! says for all: the same libraries, found as archives. `MAILLOOP_SHARED=1` leaves it alone; so does any system where
//! something of it is missing (Fedora without glibc-static, musl, a cross build).

use std::path::{Path, PathBuf};
use std::process::Command;

/// What rustc asks the linker for, and the archive that has it.
const LIBRARIES: [(&str, &str); 7] = [
    ("gcc_s", "gcc_eh"),
    ("c", "c"),
    ("m", "m"),
    ("rt", "rt"),
    ("pthread", "pthread"),
    ("util", "util"),
    ("dl", "dl"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MAILLOOP_SHARED");
    if is_wanted()
        && let Some(place) = archives()
    {
        println!("cargo::rustc-link-arg-bin=mail-dissect=-static-pie");
        println!("cargo::rustc-link-arg-bin=mail-dissect=-L{}", place.display());
    }
}

/// Only for what people install, built on the system that it runs on, and where nobody else decides how to link.
fn is_wanted() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_native = std::env::var("HOST").is_ok() && std::env::var("HOST") == std::env::var("TARGET");
    is("PROFILE", "release")
        && is("TARGET", "x86_64-unknown-linux-gnu")
        && is_native
        && flags.is_empty()
        && std::env::var_os("RUSTC_LINKER").is_none()
        && std::env::var_os("MAILLOOP_SHARED").is_none()
}

/// A directory with nothing but these archives, under the names that rustc asks for; `None` if one is missing.
fn archives() -> Option<PathBuf> {
    let place = PathBuf::from(std::env::var_os("OUT_DIR")?).join("static");
    // Of an earlier build, perhaps with another compiler.
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).ok()?;
    find("rcrt1.o")?;
    for (wanted, has) in LIBRARIES {
        let archive = find(&format!("lib{has}.a"))?;
        std::os::unix::fs::symlink(archive, place.join(format!("lib{wanted}.a"))).ok()?;
    }
    Some(place)
}

/// Where the C compiler would take a file from.
fn find(file: &str) -> Option<PathBuf> {
    let said = Command::new("cc").arg(format!("-print-file-name={file}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
    // What it does not find it gives back as it was.
    (path.is_absolute() && Path::new(&path).exists()).then_some(path)
}
