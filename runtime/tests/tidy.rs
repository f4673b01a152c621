//! The rules of `ARCHITECTURE.md` that can be read off the sources.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that a source file may have.
const MOST_LINES: usize = 600;
/// Modules that may hold unsafe code.
const UNSAFE_MODULES: [&str; 3] = ["sync", "ring", "pool"];
/// What only `driver` may name.
const DRIVER_ONLY: [&str; 9] = [
    "Instant::now",
    "SystemTime::now",
    "thread::sleep",
    "thread::spawn",
    "thread::Builder",
    "thread::park",
    "thread::scope",
    "thread::yield_now",
    "UNIX_EPOCH",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files under `dir`, except what a build or a version control system keeps there.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci" && name != ".gitignore";
        if hidden || ["target", "venv", "__pycache__", "Cargo.lock"].contains(&&*name) {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn rust_files(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root().join(dir), &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found.sort();
    found
}

fn show(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// `text` with the insides of comments and of string and character literals blanked. Lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let hide = |c: char| if c == '\n' { '\n' } else { ' ' };
    while i < chars.len() {
        let rest = &chars[i..];
        let end = if rest.starts_with(&['/', '/']) {
            rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            block_comment(rest)
        } else if let Some(n) = raw_string(rest, i.checked_sub(1).map(|before| chars[before])) {
            n
        } else if rest[0] == '"' {
            string(rest)
        } else if rest[0] == '\'' {
            character(rest)
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        out.extend(rest[..end].iter().map(|c| hide(*c)));
        i += end;
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        if rest[i..].starts_with(&['/', '*']) {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(&['*', '/']) {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

fn raw_string(rest: &[char], before: Option<char>) -> Option<usize> {
    let inside_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_') && before != Some('b');
    if rest[0] != 'r' || inside_name {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| body + end + close.len()))
}

fn string(rest: &[char]) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != '"' {
        i += 1 + usize::from(rest[i] == '\\');
    }
    (i + 1).min(rest.len())
}

/// A character literal, or 1 for the quote of a lifetime.
fn character(rest: &[char]) -> usize {
    match rest.get(1) {
        Some('\\') => 2 + rest[3..].iter().position(|c| *c == '\'').map_or(0, |end| end + 2),
        Some(_) if rest.get(2) == Some(&'\'') => 3,
        _ => 1,
    }
}

/// Blanks every item under a `cfg` of `test`. The names of modules in files of their own that are left out that way are
/// added to `elsewhere`.
fn without_tests(code: &str, elsewhere: &mut Vec<String>) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(").map(|at| from + at) {
        let close = start + code[start..].find(")]").unwrap_or(0) + 2;
        let condition = &code[start..close];
        if !words(condition).any(|(_, word)| word == "test") || condition.contains("not(test") {
            from = close;
            continue;
        }
        let (semicolon, brace) = (code[close..].find(';'), code[close..].find('{'));
        let end = match (semicolon, brace) {
            (Some(s), b) if b.is_none_or(|b| s < b) => {
                let item = &code[close..close + s];
                let mut last = item.split_whitespace().rev();
                if let (Some(name), Some("mod")) = (last.next(), last.next()) {
                    elsewhere.push(name.to_owned());
                }
                close + s + 1
            }
            (_, Some(b)) => close + b + braces(&code[close + b..]),
            _ => code.len(),
        };
        let hidden: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &hidden);
        from = start;
    }
    code
}

/// The length of the group that starts with the brace at the start of `code`.
fn braces(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The code of `dir` that is not for tests: path, text as it is, text with comments, literals and tests blanked.
fn sources(dir: &str) -> Vec<(PathBuf, String, String)> {
    let mut all = Vec::new();
    let mut tests = BTreeSet::new();
    for path in rust_files(dir) {
        let text = read(&path);
        let mut elsewhere = Vec::new();
        let code = without_tests(&blank(&text), &mut elsewhere);
        let parent = path.parent().unwrap();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let home =
            if ["mod", "lib", "main"].contains(&&*stem) { parent.to_owned() } else { parent.join(stem) };
        for name in elsewhere {
            tests.insert(home.join(format!("{name}.rs")));
            tests.insert(home.join(name).join("mod.rs"));
        }
        all.push((path, text, code));
    }
    // What a test module keeps in files of its own is test code too.
    let inside_tests = |path: &Path| tests.iter().any(|file| path.starts_with(file.with_extension("")));
    all.retain(|(path, _, _)| !tests.contains(path) && !inside_tests(path));
    assert!(!all.is_empty(), "nothing found in {dir}");
    all
}

/// The module of `runtime/src` that a file belongs to, `None` for `lib.rs`.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("runtime/src")).ok()?;
    let first = inside.iter().next()?.to_string_lossy();
    let name = first.trim_end_matches(".rs");
    (name != "lib").then(|| name.to_owned())
}

/// The modules of the layer table, lowest first.
fn layers() -> Vec<String> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let section = text.split("\n## Layers\n").nth(1).expect("a section on layers");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.map(|row| row.split('|').nth(2).unwrap_or_default().to_owned());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The modules that `code` names by `crate::`, each with where.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found
                .extend(words(rest).next().filter(|(start, _)| *start == 0).map(|(_, w)| (at, w.to_owned())));
            continue;
        }
        let mut depth = 0;
        let mut first = true;
        let group = &rest[..braces(rest)];
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => first = true,
                _ => {}
            }
            if depth == 1 && first && c.is_alphabetic() {
                found.extend(words(&group[i..]).next().map(|(_, word)| (at, word.to_owned())));
                first = false;
            }
        }
    }
    found
}

fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_module_uses_one_that_stands_after_it_in_the_table() {
    let layers = layers();
    let place = |name: &str| layers.iter().position(|layer| layer == name);
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, _, code) in sources("runtime/src") {
        let Some(own) = module(&path) else { continue };
        let Some(own_place) = place(&own) else {
            problems.push(format!("{}: module {own} is not in the table", show(&path)));
            continue;
        };
        seen.insert(own.clone());
        for (at, used) in uses(&code) {
            let line = line_of(&code, at);
            match place(&used) {
                Some(used_place) if used_place <= own_place => {}
                Some(_) => problems.push(format!("{}:{line}: {own} uses {used}", show(&path))),
                None => problems.push(format!("{}:{line}: {used} is not in the table", show(&path))),
            }
        }
        // `super` that reaches the root of the crate would hide a use from the check above.
        let depth = path.strip_prefix(root().join("runtime/src")).unwrap().iter().count();
        let inside = path.file_name().is_some_and(|name| name == "mod.rs");
        let escape = "super::".repeat(depth - usize::from(inside));
        if code.contains(&escape) {
            problems.push(format!("{}: {escape} reaches the root: write crate::", show(&path)));
        }
    }
    problems.extend(layers.iter().filter(|layer| !seen.contains(*layer)).map(|l| format!("no module {l}")));
    none(problems);
}

#[test]
fn unsafe_code_stands_in_three_modules_and_says_why_it_is_sound() {
    let mut problems = Vec::new();
    for dir in ["runtime/src", "stages/src", "tools/src"] {
        for (path, text, code) in sources(dir) {
            let lines: Vec<&str> = text.lines().collect();
            let allowed = module(&path).is_some_and(|module| UNSAFE_MODULES.contains(&&*module));
            for (at, _) in words(&code).filter(|(_, word)| *word == "unsafe") {
                let line = line_of(&code, at);
                if !allowed {
                    problems.push(format!("{}:{line}: unsafe", show(&path)));
                }
                let next = code[at + "unsafe".len()..].trim_start();
                let says_why = || {
                    let above = lines[..line].iter().rev().take(6);
                    above.clone().any(|text| text.contains("SAFETY:"))
                };
                if (next.starts_with('{') || next.starts_with("impl")) && !says_why() {
                    problems.push(format!("{}:{line}: unsafe without a SAFETY line", show(&path)));
                }
            }
        }
    }
    none(problems);
}

#[test]
fn no_file_is_a_god_file() {
    let mut problems = Vec::new();
    for path in rust_files("") {
        let lines = read(&path).lines().count();
        if lines > MOST_LINES {
            problems.push(format!("{}: {lines} lines", show(&path)));
        }
    }
    none(problems);
}

#[test]
fn nothing_outside_tests_unwraps() {
    let mut problems = Vec::new();
    for dir in ["runtime/src", "stages/src", "bench/src", "tools/src"] {
        for (path, _, code) in sources(dir) {
            // The bench harness may end with a word: where it cannot be set up there is nothing to measure.
            let patterns = if dir == "bench/src" { &[".unwrap()"][..] } else { &[".unwrap()", ".expect("] };
            for pattern in patterns {
                for (at, _) in code.match_indices(pattern) {
                    problems.push(format!("{}:{}: {pattern}", show(&path), line_of(&code, at)));
                }
            }
        }
    }
    none(problems);
}

#[test]
fn only_drivers_know_clocks_and_threads() {
    let mut problems = Vec::new();
    for (path, _, code) in sources("runtime/src") {
        if module(&path).as_deref() == Some("driver") {
            continue;
        }
        for pattern in DRIVER_ONLY {
            for (at, _) in code.match_indices(pattern) {
                problems.push(format!("{}:{}: {pattern}", show(&path), line_of(&code, at)));
            }
        }
    }
    none(problems);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    // In two parts, so that this file passes.
    let strings = [["/wo", "rk/"], ["far", "m-"], ["/ro", "ot/"], ["/ho", "me/"]].map(|parts| parts.concat());
    let mut found = Vec::new();
    files(&root(), &mut found);
    let mut problems = Vec::new();
    for path in found {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for string in &strings {
            for (at, _) in text.match_indices(string.as_str()) {
                problems.push(format!("{}:{}: {string}", show(&path), line_of(&text, at)));
            }
        }
    }
    none(problems);
}

#[test]
fn every_make_target_in_the_documents_exists() {
    let makefile = read(&root().join("Makefile"));
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let mut problems = Vec::new();
    let mut named = 0;
    for document in ["README.md", "ARCHITECTURE.md", "NUMA.md"] {
        let text = read(&root().join(document));
        let in_code = text.match_indices("`make ").map(|(at, start)| at + start.len());
        let on_lines = text.match_indices("\nmake ").map(|(at, start)| at + start.len());
        let indented = text.match_indices("    make ").map(|(at, start)| at + start.len());
        for at in in_code.chain(on_lines).chain(indented) {
            let target: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            named += 1;
            if !is_target(&target) {
                problems.push(format!("{document}:{}: make {target}", line_of(&text, at)));
            }
        }
    }
    assert!(
        named > 5,
        "the documents name hardly any target: is this test still looking in the right place?"
    );
    none(problems);
}

/// The types of the contract: each has a row, or several, in the table.
const CONTRACT: [&str; 38] = [
    "Timestamp",
    "TraceContext",
    "Cost",
    "Envelope",
    "Batch",
    "StageKind",
    "StageContext",
    "ILogger",
    "ITracer",
    "StreamIn",
    "StreamOut",
    "Stage",
    "CompletenessResult",
    "CompletenessChecker",
    "AccumulatorPolicy",
    "AccumulatorState",
    "Accumulator",
    "ParallelismHint",
    "BufferPolicy",
    "DropPolicy",
    "BackpressureStrategy",
    "ErrorPolicy",
    "CircuitBreakerPolicy",
    "IMetrics",
    "StageRuntimeState",
    "IMemoryPool",
    "MemoryPoolStats",
    "PolicyRegistry",
    "ExecutionOptions",
    "PipelineResult",
    "ExecutionEngine",
    "AccumulationDescriptor",
    "StageNode",
    "Edge",
    "ChannelDescriptor",
    "ChannelOrdering",
    "PipelineGraph",
    "Pipeline",
];

/// What is wrong with a cell of a table: names in backquotes, a file first and then what is in it. Files are those below
/// `runtime`, or below another package that they name.
fn wrong_in(cell: &str, is_there: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut text, mut named) = (None, 0);
    for name in cell.split('`').skip(1).step_by(2) {
        if name.ends_with(".rs") {
            let of_runtime = root().join("runtime").join(name);
            text = fs::read_to_string(of_runtime).or_else(|_| fs::read_to_string(root().join(name))).ok();
            problems.extend(text.is_none().then(|| format!("no file {name}")));
        } else if let Some(text) = &text {
            named += 1;
            problems.extend((!is_there(text, name)).then(|| format!("no {name}")));
        } else {
            problems.push(format!("{name} stands before a file"));
        }
    }
    problems.extend((named == 0).then(|| "nothing is named".to_owned()));
    problems
}

/// The text of `ARCHITECTURE.md` below a heading.
fn section(heading: &str) -> String {
    let text = read(&root().join("ARCHITECTURE.md"));
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    section.split("\n## ").next().unwrap().to_owned()
}

fn has_test(text: &str, name: &str) -> bool {
    text.contains(&format!("fn {name}("))
}

#[test]
fn every_case_of_event_time_has_a_test_that_is_there() {
    let section = section("Event time, case by case");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut problems = Vec::new();
    let mut cases = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, case, test, _] = cells[..] else {
            problems.push(format!("not two cells: {row}"));
            continue;
        };
        cases += 1;
        problems.extend(wrong_in(test, has_test).into_iter().map(|wrong| format!("{case}: {wrong}")));
    }
    assert!(cases >= 20, "{cases} cases");
    none(problems);
}

#[test]
fn every_member_of_the_contract_has_a_place_and_a_test_and_both_are_there() {
    let section = section("The contract");
    let mut problems = Vec::new();
    let mut types = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, what, place, test, _] = cells[..] else {
            problems.push(format!("not three cells: {row}"));
            continue;
        };
        types.extend(what.split('`').skip(1).step_by(2));
        let has_word = |text: &str, name: &str| words(text).any(|(_, word)| word == name);
        let wrong = wrong_in(place, has_word).into_iter().chain(wrong_in(test, has_test));
        problems.extend(wrong.map(|wrong| format!("{what}: {wrong}")));
    }
    problems.extend(
        CONTRACT.iter().filter(|name| !types.contains(*name)).map(|name| format!("no row for {name}")),
    );
    none(problems);
}

/// The checks above are only as good as what they read with.
mod the_reader {
    use super::{blank, uses, without_tests};

    #[test]
    fn blanks_comments_and_literals_and_nothing_else() {
        let text = "a // x.unwrap()\nb(\"c \\\" unsafe\", 'd', '\\'', r#\"e \" f\"#) /* g /* h */ i */ j<'k>(br\"l\")";
        let blanked = blank(text);
        assert_eq!(blanked.lines().count(), 2);
        let left: String = blanked.split_whitespace().collect();
        assert_eq!(left, "ab(,,,)j<k>(b)");
    }

    #[test]
    fn leaves_out_test_modules_inline_and_in_files() {
        let code = "use a;\n#[cfg(test)]\npub(crate) mod kit;\n#[cfg(all(test, unix))]\nmod t { fn f() { x } }\n#[cfg(not(test))]\nfn g() {}";
        let mut elsewhere = Vec::new();
        let left = without_tests(code, &mut elsewhere);
        assert_eq!(elsewhere, ["kit"]);
        assert!(!left.contains('x') && left.contains("fn g") && left.contains("use a"), "{left}");
        assert_eq!(left.lines().count(), code.lines().count());
    }

    #[test]
    fn finds_every_module_that_is_named() {
        let code =
            "use crate::ring::x; use crate::{graph::{data, order}, plan, stage::Chain}; crate::sync::d()";
        let names: Vec<String> = uses(code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["ring", "graph", "plan", "stage", "sync"]);
    }
}
