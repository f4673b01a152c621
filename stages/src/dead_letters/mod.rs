//! Dead letters in a file: a sink that appends them as lines of JSON, and a reader for what it wrote.
//!
//! ```
//! use corelane::engine::Engine;
//! use corelane::flow::PipelineBuilder;
//! use corelane::policy::ErrorPolicy;
//! use corelane_stages::dead_letters::{Content, FileSink, read};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("dead.ndjson");
//!
//! let p = PipelineBuilder::new("numbers");
//! let (numbers, dead) = p
//!     .items("words", ["1", "two", "3"])
//!     .try_map("parse", |word| word.parse::<u32>())
//!     .on_error(ErrorPolicy::DeadLetter)
//!     .dead_letters();
//! numbers.for_each("out", drop);
//! dead.sink("letters", FileSink::appending(&path, |word: &&str| Content::json(word)));
//! assert!(Engine::default().run(p.build()?)?.success);
//!
//! let letters: Vec<_> = read(&path)?.collect::<Result<_, _>>()?;
//! assert_eq!((letters[0].record.stage.as_str(), letters[0].record.attempts), ("parse", 1));
//! assert_eq!(letters[0].record.content.payload.as_ref().and_then(|p| p.json::<String>().ok()), Some("two".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format, version 1
//!
//! One JSON object a line, in the order in which the letters came. Files are only appended to; a line that a crash cut
//! off stays alone on its line.
//!
//! | field | what it is |
//! |---|---|
//! | `version` | 1 |
//! | `pipeline`, `stage`, `instance`, `partition` | where the item failed |
//! | `kind` | `error`, `panic` or `breaker-open` |
//! | `error` | the text of the error |
//! | `attempts` | calls made for the item |
//! | `time` | when the stage gave up, nanoseconds since 1970 |
//! | `payload` | `{"json": ..}`, `{"base64": ".."}`, or absent where the item was lost with the failure |
//! | `headers`, `attributes`, `trace`, `timestamp`, `seq_id` | of an item that is an `Envelope`; absent where empty |

mod file;
mod read;
mod record;

pub use file::{FileLetters, FileSink};
pub use read::{Letter, LetterError, Letters, MAX_LINE_BYTES, read, read_from};
pub use record::{Content, Payload, Record, VERSION};
