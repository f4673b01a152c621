//! Named policies: read from one text or several, with everything that is wrong at once, and resolved by name.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::time::Duration;

use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::graph::GraphErrors;
use corelane::policy::{AfterRetries, Backoff, CircuitBreakerPolicy, ErrorPolicy, PolicyRegistry};

const GOOD: &str = r#"
[error-policies]
strict = "fail"

[error-policies.patient.retry]
max-retries = 5
backoff = { base = "10ms", cap = "1s" }
then = "ignore"

[circuit-breaker-policies.db]
error-threshold = 0.5
latency-threshold = "1s"
window-size = "10s"
minimum-throughput = 20
cooldown-period = "5s"
"#;

/// The messages about a text that is wrong.
fn refused(text: &str) -> Vec<String> {
    PolicyRegistry::from_toml(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_registry_has_what_its_text_says() {
    let registry = PolicyRegistry::from_toml(GOOD).unwrap();
    assert_eq!(registry.len(), 3);
    assert_eq!(registry.error_policies["strict"], ErrorPolicy::Fail);
    let ErrorPolicy::Retry { max_retries: 5, backoff, then: AfterRetries::Ignore, .. } =
        registry.error_policies["patient"]
    else {
        panic!("{registry:?}")
    };
    let Backoff { base, cap, .. } = backoff;
    assert_eq!((base, cap), (Duration::from_millis(10), Duration::from_secs(1)));
    assert!(PolicyRegistry::from_toml("").unwrap().is_empty());
}

#[test]
fn everything_that_is_wrong_is_reported_at_once_with_field_line_and_column_fault_40() {
    let text = "\
[buffer-policies]
none = { capacity = 0 }
word = { capacity = \"x\" }
odd = { capacity = 1, colour = 2 }
[error-policies.hasty.retry]
max-retries = 99999
backoff = { base = \"0s\", cap = \"1s\" }
[buffer-policy]
a = 1
[backpressure-policies]
slow = { rate-shaping = { rate = 0, burst = 1 } }
flat = 7
";
    let expected = [
        ("buffer-policies.none.capacity (line 2, column 21)", "is 0"),
        ("buffer-policies.word.capacity (line 3, column 21)", "invalid type: string"),
        ("buffer-policies.odd.colour (line 4, column 23)", "unknown field `colour`"),
        ("error-policies.hasty.retry.max-retries (line 6, column 15)", "at most 10000"),
        ("error-policies.hasty.retry.backoff.base (line 7, column 20)", "is zero"),
        ("buffer-policy (line 8, column 2)", "did you mean buffer-policies?"),
        ("backpressure-policies.slow.rate-shaping.rate (line 11, column 34)", "nothing could ever pass"),
        ("backpressure-policies.flat (line 12, column 8)", "wanted string or table"),
    ];
    let messages = refused(text);
    assert_eq!(messages.len(), expected.len(), "{messages:#?}");
    for (message, (place, word)) in messages.iter().zip(expected) {
        assert!(message.starts_with(place) && message.contains(word), "{message:?}: {place}, {word}");
    }
}

#[test]
fn numbers_that_do_not_fit_and_those_that_are_none_are_refused_fault_42() {
    for (field, value) in [
        ("window-size = \"1s\"\nerror-threshold", "nan"),
        ("window-size = \"1s\"\nerror-threshold", "1e999"),
        ("window-size = \"1s\"\nerror-threshold", "-0.1"),
        ("error-threshold = 0.5\nwindow-size", "\"99999999999999999999s\""),
        ("error-threshold = 0.5\nwindow-size", "\"1e9s\""),
    ] {
        let text = format!(
            "[circuit-breaker-policies.b]\nlatency-threshold = \"1s\"\nminimum-throughput = 1\n\
             cooldown-period = \"1s\"\n{field} = {value}\n"
        );
        let messages = refused(&text);
        assert!(messages[0].contains("(line 6"), "{value}: {messages:?}");
    }
    for capacity in ["18446744073709551616", "-1", "4294967297", "1.5"] {
        let messages = refused(&format!("[buffer-policies]\nb = {{ capacity = {capacity} }}"));
        assert!(messages[0].contains("line 2"), "{capacity}: {messages:?}");
    }
}

#[test]
fn text_that_is_no_toml_is_refused_without_losing_the_rest_fault_40() {
    let messages = refused("[buffer-policies]\na = {{{\nb = { capacity = 0 }\n");
    assert!(messages.iter().any(|message| message.contains("line 2")), "{messages:?}");
    assert!(!refused("[buffer-policies]\na = { capacity = 1 }\na = { capacity = 2 }\n").is_empty());
    assert!(!refused(&format!("[buffer-policies]\na = {}", "[".repeat(100_000))).is_empty());
    let crlf = PolicyRegistry::from_toml(&GOOD.replace('\n', "\r\n")).unwrap();
    assert_eq!(crlf, PolicyRegistry::from_toml(GOOD).unwrap());
}

#[test]
fn of_a_text_of_another_kind_the_first_lines_are_named_and_the_rest_counted() {
    let messages = refused(&"not toml\n".repeat(500));
    assert_eq!(messages.len(), 21, "{messages:?}");
    assert!(messages[19].contains("line 20"), "{}", messages[19]);
    assert!(messages[20].ends_with("this and 479 more are no TOML either"), "{}", messages[20]);
}

#[test]
fn several_files_are_one_registry_and_a_name_given_twice_is_named_with_both_places() {
    let small = "[buffer-policies]\nsmall = { capacity = 4 }\n";
    let registry = PolicyRegistry::from_files([("a.toml", GOOD), ("b.toml", small)]).unwrap();
    assert_eq!((registry.len(), registry.buffer_policies["small"].capacity), (4, 4));
    let again = "\n[buffer-policies]\nsmall = { capacity = 8 }\nsmell = { capacity = 0 }";
    let errors = PolicyRegistry::from_files([("b.toml", small), ("c.toml", again)]).unwrap_err().to_string();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(
        lines[0],
        "c.toml:3:1: buffer-policies.small: is given already at b.toml:2:1: buffer-policies.small; remove one"
    );
    assert!(lines[1].starts_with("c.toml:4:22: buffer-policies.smell.capacity: is 0"), "{errors}");
    assert_eq!(lines.len(), 2);
    // The same name in another table is another policy.
    let other = "[error-policies]\nsmall = \"fail\"\n";
    assert_eq!(PolicyRegistry::from_files([("b", small), ("d", other)]).unwrap().len(), 2);
}

fn named(error: &str, breaker: &str) -> Result<Pipeline, GraphErrors> {
    let p = PipelineBuilder::new("named").with_policies(PolicyRegistry::from_toml(GOOD).unwrap());
    p.generate("n", 10, |i| i)
        .try_map("half", |x: &u64| if x.is_multiple_of(2) { Ok(x / 2) } else { Err("odd") })
        .on_error_named(error)
        .circuit_breaker_named(breaker)
        .for_each("out", drop);
    p.build()
}

#[test]
fn stages_refer_to_policies_by_name() {
    let pipeline = named("patient", "db").unwrap();
    let stage = &pipeline.validated().stages()[1];
    assert!(matches!(stage.error_policy, ErrorPolicy::Retry { max_retries: 5, .. }));
    let Some(CircuitBreakerPolicy { window_size, .. }) = stage.circuit_breaker else { panic!("{stage:?}") };
    assert_eq!(window_size, Duration::from_secs(10));
}

#[test]
fn a_name_that_is_not_there_is_refused_with_the_nearest_one_fault_27() {
    let Err(errors) = named("pateint", "cache") else { panic!("accepted") };
    let errors = errors.to_string();
    assert!(errors.contains("no policy \"pateint\" in the registry's error-policies"), "{errors}");
    assert!(errors.contains("did you mean patient?"), "{errors}");
    assert!(errors.contains("no policy \"cache\"") && errors.contains("there are db"), "{errors}");
}
