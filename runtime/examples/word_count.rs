//! Counts words on every core this process may use, and checks the counts against a plain loop.

use std::collections::BTreeMap;
use std::error::Error;

use corelane::engine::Engine;
use corelane::flow::PipelineBuilder;

const TEXT: &str = "a rose is a rose is a rose and a daisy is not a rose";
const LINES: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let p = PipelineBuilder::new("word-count");
    let counts = p
        .generate("lines", LINES, |_| TEXT)
        .flat_map("words", |line| line.split(' '))
        .key_by(|word| *word)
        .fold("count", || 0u64, |count, _word| *count += 1)
        .collect("out");

    let running = Engine::default().start(p.build()?)?;
    println!("driver: {}, partitions: {}", running.driver(), running.placement().partitions.len());
    let result = running.join();
    result.account.verify().map_err(|laws| format!("{laws:?}"))?;

    let counts: BTreeMap<&str, u64> = counts.take().into_iter().collect();
    for (word, count) in &counts {
        println!("{count:>6} {word}");
    }
    println!("{}", result.account);

    let mut expected = BTreeMap::new();
    for word in TEXT.split(' ') {
        *expected.entry(word).or_insert(0) += LINES;
    }
    if counts != expected {
        return Err(format!("expected {expected:?}").into());
    }
    println!("as a plain loop counts them: yes");
    Ok(())
}
