//! Stamps the commit into the binary, so that a figure names what it was measured on.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn main() {
    // Only the harness names the commit: whoever shares a query of this crate is not to be built again with each.
    if std::env::var_os("CARGO_FEATURE_HARNESS").is_none() {
        println!("cargo::rerun-if-changed=build.rs");
        return;
    }
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CORELANE_COMMIT={commit}{}", if dirty { "-dirty" } else { "" });
    for path in ["src", "../runtime/src"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}
