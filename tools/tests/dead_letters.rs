//! Requests that cannot be decoded: kept, listed, shown and run again.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corelane_tools::exit::Exit;
use support::{code, corelane, recording, refused, subcommand, text};

/// Spoils every request whose number `spoiled` names, counted from 1; the bytes that they had.
fn spoil(recording: &Path, spoiled: impl Fn(u64) -> bool) -> Vec<Vec<u8>> {
    let mut bytes = fs::read(recording).unwrap();
    let (mut at, mut number, mut whole) = (0, 0, Vec::new());
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        number += 1;
        if spoiled(number) {
            whole.push(bytes[at + 4..at + 4 + length].to_vec());
            bytes[at + 5] = 0x7f; // a field longer than the request
        }
        at += 4 + length;
    }
    fs::write(recording, bytes).unwrap();
    whole
}

/// A folder with a recording of 50 traces of which every tenth is spoiled, and the file that its letters go to.
fn spoiled() -> (tempfile::TempDir, PathBuf, PathBuf, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 50);
    let whole = spoil(&input, |number| number % 10 == 0);
    let letters = dir.path().join("dead.ndjson");
    (dir, input, letters, whole)
}

fn run(input: &Path, letters: &Path, more: &[&str]) -> Output {
    let options = [input.to_str().unwrap(), "--sample", "1", "--dead-letters", letters.to_str().unwrap()];
    corelane(&[&options[..], more].concat()).output().unwrap()
}

fn letters_command(options: &[&str]) -> Output {
    subcommand("dead-letters", options).output().unwrap()
}

fn ids(output: &Output) -> BTreeSet<String> {
    text(&output.stdout).lines().map(|line| line[13..45].to_owned()).collect()
}

#[test]
fn without_a_file_the_first_bad_request_ends_the_run_and_with_one_all_others_go_through() {
    let (_dir, input, letters, _) = spoiled();
    assert!(refused(&[input.to_str().unwrap()], Exit::Input).contains("request 9"));
    for more in [&["--cores", "*=0"][..], &[]] {
        fs::remove_file(&letters).unwrap_or_default();
        let output = run(&input, &letters, more);
        assert_eq!((code(&output), ids(&output).len()), (0, 45), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("5 requests could not be decoded and are in "));
        assert_eq!(fs::read_to_string(&letters).unwrap().lines().count(), 5);
    }
}

#[test]
fn letters_are_listed_and_shown_with_where_they_came_from() {
    let (_dir, input, letters, whole) = spoiled();
    run(&input, &letters, &["-q"]);
    let file = letters.to_str().unwrap();
    let list = letters_command(&["list", file]);
    let lines = text(&list.stdout);
    let fields: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((code(&list), fields.len(), fields[0][2]), (0, 6, "stage"));
    for (number, fields) in (1..).zip(&fields[1..]) {
        assert_eq!(
            (fields[0], fields[2], fields[3], fields[4]),
            (&*format!("{number}"), "decode", "error", "1")
        );
        assert!(fields[6].contains("recording.otlp: request") && fields.len() == 7, "{fields:?}");
    }
    let show = letters_command(&["show", file, "1"]);
    let record: serde_json::Value = serde_json::from_slice(&show.stdout).unwrap();
    assert_eq!(
        (code(&show), &record["version"], &record["pipeline"]),
        (0, &1.into(), &"trace-assembly".into())
    );
    assert_eq!(record["headers"]["encoding"], "protobuf");
    assert!(record["headers"]["input"].as_str().unwrap().ends_with("recording.otlp"));
    let payload = letters_command(&["show", file, "1", "--payload"]).stdout;
    assert!(whole.iter().any(|whole| whole.len() == payload.len() && whole[2..] == payload[2..]));
}

#[test]
fn repaired_letters_run_again_give_exactly_what_was_missing() {
    let (dir, input, letters, whole) = spoiled();
    let first = run(&input, &letters, &["-q"]);
    let file = letters.to_str().unwrap();
    // As it is, every request fails again, and becomes a letter again.
    let again = dir.path().join("again.ndjson");
    let replayed = letters_command(&["replay", file, "--", "--dead-letters", again.to_str().unwrap(), "-q"]);
    assert_eq!((code(&replayed), replayed.stdout.len()), (0, 0), "{}", text(&replayed.stderr));
    assert_eq!(fs::read_to_string(&again).unwrap().lines().count(), 5);
    let replayed = letters_command(&["replay", file]);
    assert_eq!(code(&replayed), i32::from(Exit::Input.code()));

    // What a person would do: put right what is wrong.
    let mut repaired = String::new();
    for line in fs::read_to_string(&letters).unwrap().lines() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = STANDARD.decode(record["payload"]["base64"].as_str().unwrap()).unwrap();
        let right = whole.iter().find(|whole| whole[2..] == bytes[2..]).unwrap();
        record["payload"]["base64"] = STANDARD.encode(right).into();
        repaired += &format!("{record}\n");
    }
    fs::write(&letters, repaired).unwrap();
    let replayed = letters_command(&["replay", file, "--stage", "decode", "--", "--sample", "1", "-q"]);
    assert_eq!(code(&replayed), 0, "{}", text(&replayed.stderr));
    let (before, after) = (ids(&first), ids(&replayed));
    assert_eq!((before.len(), after.len(), before.union(&after).count()), (45, 5, 50));
}

#[test]
fn what_cannot_be_done_has_its_exit_code_and_says_why() {
    let (dir, input, letters, _) = spoiled();
    run(&input, &letters, &["-q"]);
    let file = letters.to_str().unwrap();
    let expect = |options: &[&str], exit: Exit, words: &str| {
        let output = letters_command(options);
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(exit.code()), "{options:?}: {message}");
        assert!(message.contains(words), "{options:?}: {message}");
    };
    expect(&["list", "missing.ndjson"], Exit::Input, "missing.ndjson: cannot read");
    expect(&["list", dir.path().to_str().unwrap()], Exit::Input, "cannot read");
    expect(&["show", file, "6"], Exit::Input, "no dead letter number 6, the file has 5");
    expect(&["show", file, "0"], Exit::Input, "no dead letter number 0");
    expect(&["replay", file, "--stage", "nobody"], Exit::Input, "no dead letter of nobody");
    expect(&["replay", file, "--", "--nope"], Exit::Usage, "--nope");
    expect(&["replay", file, "--", "--repeat", "2"], Exit::Usage, "--repeat");
    expect(&["list"], Exit::Usage, "FILE");
    let other = dir.path().join("other");
    fs::write(&other, "no dead letter\n").unwrap();
    for command in ["list", "replay"] {
        expect(&[command, other.to_str().unwrap()], Exit::Input, "line 1 is no dead letter");
    }
    expect(&["replay", file, "--", "--dead-letters", file], Exit::Output, "is also an input");
    // A damaged line: the rest is listed, and it is said.
    let spoiled = format!("{}{{\"version\":1,\n", fs::read_to_string(&letters).unwrap());
    fs::write(&letters, spoiled).unwrap();
    expect(&["list", file], Exit::Input, "line 6 is no dead letter");
    expect(&["show", file, "6"], Exit::Input, "the file has 5; line 6 is no dead letter");
    assert_eq!(text(&letters_command(&["list", file]).stdout).lines().count(), 6);
}

#[test]
fn a_file_of_dead_letters_that_cannot_be_written_is_an_output_error() {
    let (dir, input, _, _) = spoiled();
    let input = input.to_str().unwrap();
    let missing = dir.path().join("no/dead.ndjson");
    assert!(
        refused(&[input, "--dead-letters", missing.to_str().unwrap()], Exit::Output).contains("directory")
    );
    assert!(refused(&[input, "--dead-letters", input], Exit::Output).contains("is also an input"));
    let out = dir.path().join("out");
    fs::write(&out, "").unwrap();
    let out = out.to_str().unwrap();
    assert!(refused(&[input, "-o", out, "--dead-letters", out], Exit::Output).contains("same file"));
    assert!(refused(&[input, "--dead-letters", "/dev/full"], Exit::Pipeline).contains("/dev/full"));
}
