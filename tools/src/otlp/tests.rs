//! Inputs from path to raw requests.

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use corelane::pool::MemoryPool;
use flate2::write::GzEncoder;
use prost::Message;

use super::buffers::Buffers;
use super::framing::Framing;
use super::source::Source;
use super::testing::{framed, requests};
use super::*;

/// Hands out one byte at a time: the slowest pipe there is.
struct Trickle(Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

fn framing_of(raw: Box<dyn Read + Send>) -> Result<Framing, InputError> {
    Framing::new(Source::new(Arc::from("in"), raw, InputProgress::default())?)
}

fn found_in(raw: Box<dyn Read + Send>) -> Result<Vec<(u64, Vec<u8>)>, InputError> {
    let mut framing = framing_of(raw)?;
    let mut all = Vec::new();
    let pool = MemoryPool::default();
    let buffers = Buffers::open(&pool).unwrap();
    while let Some((offset, request)) = framing.next(&buffers)? {
        all.push((offset, request.to_vec()));
    }
    assert_eq!(pool.statistics().rented_buffers, 0);
    Ok(all)
}

/// The requests in `bytes`; the same whether they come at once or byte by byte.
fn found(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, InputError> {
    let at_once = found_in(Box::new(Cursor::new(bytes.to_vec())));
    let trickled = found_in(Box::new(Trickle(Cursor::new(bytes.to_vec()))));
    assert_eq!(format!("{at_once:?}"), format!("{trickled:?}"));
    at_once
}

fn contents(bytes: &[u8]) -> Vec<Vec<u8>> {
    found(bytes).unwrap().into_iter().map(|(_, request)| request).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    // With a checksum, as the command line tool writes it.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn encoded(count: u64) -> Vec<Vec<u8>> {
    requests(count).iter().map(Message::encode_to_vec).collect()
}

fn json_lines(count: u64) -> Vec<Vec<u8>> {
    requests(count).iter().map(|request| serde_json::to_vec(request).unwrap()).collect()
}

#[test]
fn every_format_in_every_compression_gives_its_requests() {
    let documents = json_lines(3);
    let pretty = serde_json::to_vec_pretty(&requests(1)[0]).unwrap();
    let cases: [(Vec<u8>, Vec<Vec<u8>>); 8] = [
        (framed(&requests(3)), encoded(3)),
        (encoded(1).concat(), encoded(1)),
        (documents.join(&b"\n"[..]), documents.clone()),
        (documents.join(&b"\r\n\r\n"[..]), documents.clone()),
        ([documents.concat(), b"\n\n".to_vec()].concat(), documents.clone()),
        ([b"\xef\xbb\xbf".to_vec(), documents[0].clone()].concat(), documents[..1].to_vec()),
        (pretty.clone(), vec![pretty.clone()]),
        ([b"\n \t".to_vec(), pretty.clone()].concat(), vec![pretty]),
    ];
    for (bytes, expected) in cases {
        assert_eq!(contents(&bytes), expected);
        assert_eq!(contents(&gzip(&bytes)), expected);
        assert_eq!(contents(&zstd(&bytes)), expected);
    }
}

#[test]
fn compressed_parts_written_one_after_the_other_are_one_stream() {
    let bytes = framed(&requests(2));
    let (head, tail) = bytes.split_at(11);
    for compress in [gzip, zstd] {
        assert_eq!(contents(&[compress(head), compress(tail)].concat()), encoded(2));
    }
}

#[test]
fn offsets_point_at_the_start_of_each_request() {
    let bytes = framed(&requests(3));
    let length = bytes.len() as u64 / 3;
    let offsets = |bytes: &[u8]| found(bytes).unwrap().iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
    assert_eq!(offsets(&bytes), [0, length, 2 * length]);
    assert_eq!(offsets(b"{} \n{\"a\":\"}\\\"{\"}\n"), [0, 4]);
}

#[test]
fn json_after_a_line_feed_is_not_taken_for_protobuf_nor_the_reverse() {
    assert_eq!(contents(b"\n{\"resourceSpans\":[]}"), [b"{\"resourceSpans\":[]}"]);
    assert_eq!(contents(b"\n{\n\"resourceSpans\":[]}").len(), 1);
    // A bare request whose length byte is `{` (123), holding a resource of 34 (`"`) bytes.
    let bare = [b"\n{\n\"\n".as_slice(), &[b'a'; 120]].concat();
    assert_eq!(contents(&bare), [bare]);
}

#[test]
fn a_request_cut_at_any_byte_is_truncated_at_its_start_fault_94() {
    let bytes = framed(&requests(2));
    let second = bytes.len() / 2;
    for length in second + 1..bytes.len() {
        let missing_of_prefix = (second + 4).saturating_sub(length) as u64;
        match found(&bytes[..length]) {
            Err(InputError::Truncated { offset, missing, .. }) => {
                assert_eq!(offset, second as u64);
                let expected =
                    if missing_of_prefix > 0 { missing_of_prefix } else { (bytes.len() - length) as u64 };
                assert_eq!(missing, expected);
            }
            other => panic!("{length}: {other:?}"),
        }
    }
    for length in 1..second {
        let result = found(&bytes[..length]);
        assert!(matches!(result, Err(InputError::Truncated { offset: 0, .. })), "{length}: {result:?}");
    }
}

#[test]
fn a_json_document_cut_at_any_byte_is_truncated_at_its_start() {
    let text = [json_lines(1).concat(), b"\n".to_vec(), json_lines(1).concat()].concat();
    let second = text.len() / 2 + 1;
    for length in second + 1..text.len() {
        let result = found(&text[..length]);
        let expected = second as u64;
        assert!(
            matches!(result, Err(InputError::TruncatedJson { offset, .. }) if offset == expected),
            "{length}"
        );
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_anything_is_read_fault_93() {
    let above = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
    for length in [above, 0x8000_0000, u32::MAX] {
        let first = [&length.to_be_bytes()[..], b"\x0a"].concat();
        let later = [framed(&requests(1)), length.to_be_bytes().to_vec()].concat();
        let start = later.len() as u64 - 4;
        for (bytes, place) in [(first, 0), (later, start)] {
            match found(&bytes) {
                Err(InputError::FrameTooLong { offset, length: found, limit, .. }) => {
                    assert_eq!((offset, found, limit), (place, u64::from(length), MAX_FRAME_BYTES));
                }
                other => panic!("{length:#x}: {other:?}"),
            }
        }
    }
    let at_limit = u32::try_from(MAX_FRAME_BYTES).unwrap().to_be_bytes();
    assert!(matches!(found(&at_limit), Err(InputError::Truncated { missing: MAX_FRAME_BYTES, .. })));
}

#[test]
fn a_bare_or_json_request_above_the_limit_is_refused_and_not_collected_for_ever() {
    let endless = |start: &'static [u8], byte: u8| Box::new(Cursor::new(start).chain(io::repeat(byte)));
    assert!(matches!(found_in(endless(b"\x0a", 0x0a)), Err(InputError::FrameTooLong { .. })));
    assert!(matches!(found_in(endless(b"{\"a", b'a')), Err(InputError::FrameTooLong { .. })));
    let bomb = gzip(&[b"{\"a".to_vec(), vec![b'a'; MAX_FRAME_BYTES as usize + 1]].concat());
    assert!(matches!(found_in(Box::new(Cursor::new(bomb))), Err(InputError::FrameTooLong { .. })));
}

#[test]
fn a_length_of_zero_is_refused_fault_93() {
    assert!(matches!(found(&[0; 4096]), Err(InputError::EmptyFrame { offset: 0, .. })));
    let tail = [framed(&requests(1)), vec![0; 64]].concat();
    assert!(
        matches!(found(&tail), Err(InputError::EmptyFrame { offset, .. }) if offset == tail.len() as u64 - 64)
    );
}

#[test]
fn nothing_and_only_white_space_are_empty() {
    for bytes in [vec![], b" \n\n".to_vec(), gzip(b""), zstd(b"")] {
        assert!(matches!(found(&bytes), Err(InputError::Empty { .. })));
    }
}

#[test]
fn what_is_no_otlp_is_an_unknown_format_that_shows_how_it_starts() {
    let spaces = [vec![b' '; 100_000], b"{}".to_vec()].concat();
    let cases: [&[u8]; 9] = [
        b"hello",
        b"name,age\n",
        b"[{}]",
        b"{1}",
        b"\x7fELF\x02\x01",
        b"PK\x03\x04",
        b"\x00\x00\x00\x05hello",
        b"key:\nvalue",
        &spaces,
    ];
    for bytes in cases {
        let result = found(bytes);
        assert!(matches!(result, Err(InputError::UnknownFormat { .. })), "{result:?}");
    }
    let message = found(b"\x7fELF\x02").unwrap_err().to_string();
    assert!(message.contains(r#"starts with "\x7fELF\x02""#), "{message}");
}

#[test]
fn text_between_json_documents_is_malformed_at_its_byte() {
    let place = |text: &[u8]| match found(text) {
        Err(InputError::MalformedJson { offset, .. }) => offset,
        other => panic!("{other:?}"),
    };
    assert_eq!(place(b"{}\nx"), 3);
    assert_eq!(place(b"{},{}"), 2);
    assert_eq!(place(b"{}\xef\xbb\xbf{}"), 2);
    assert_eq!(place(b"{\"a\":\"b\n\"}"), 7);
}

#[test]
fn a_compressed_stream_cut_anywhere_is_an_error_not_a_shorter_input() {
    let bytes = framed(&requests(50));
    for compress in [gzip, zstd] {
        let stored = compress(&bytes);
        for length in 5..stored.len() {
            let result = found_in(Box::new(Cursor::new(stored[..length].to_vec())));
            assert!(matches!(result, Err(InputError::CorruptCompression { .. })), "{length}: {result:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_compressed_stream_is_never_a_different_input() {
    let bytes = framed(&requests(5));
    for compress in [gzip, zstd] {
        let stored = compress(&bytes);
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Header bits without meaning for the content (gzip's time, system and flags) change nothing.
            if let Ok(found) = found_in(Box::new(Cursor::new(damaged))) {
                assert!(found.into_iter().map(|(_, request)| request).eq(encoded(5)), "bit {bit}");
            }
        }
    }
    let garbage_after = [gzip(&bytes), b"garbage".to_vec()].concat();
    assert!(matches!(found(&garbage_after), Err(InputError::CorruptCompression { codec: Codec::Gzip, .. })));
}

fn open(paths: &[&Path], repeat: u32) -> Result<RequestReader, InputError> {
    RequestReader::open(paths.iter().map(|path| InputPath::new(path)).collect(), repeat)
}

#[test]
fn paths_that_cannot_be_used_are_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    fs::write(&good, framed(&requests(1))).unwrap();
    let refused = |path: &Path| open(&[&good, path], 1).err().unwrap();
    let missing = dir.path().join("missing");
    assert!(matches!(refused(&missing), InputError::NotFound { .. }));
    assert!(refused(&missing).to_string().contains("missing: no such file"));
    assert!(matches!(refused(dir.path()), InputError::IsDirectory { .. }));
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert!(matches!(refused(&empty), InputError::Empty { .. }));
    let looped = dir.path().join("loop");
    symlink(&looped, &looped).unwrap();
    assert!(matches!(refused(&looped), InputError::Io { .. }));
    let locked = dir.path().join("locked");
    fs::write(&locked, "x").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&locked).is_err() {
        assert!(matches!(refused(&locked), InputError::NoPermission { .. }));
    } // else: the super-user may read everything
    let denied = InputError::from_io(&Arc::from("in"), io::Error::from_raw_os_error(libc::EACCES));
    assert!(matches!(denied, InputError::NoPermission { .. }));
    assert!(matches!(open(&[Path::new("-"), Path::new("-")], 1), Err(InputError::StdinTwice)));
    assert!(matches!(open(&[Path::new("-")], 2), Err(InputError::StdinTwice)));
}

#[test]
fn many_inputs_and_repetitions_come_in_order_with_running_numbers_and_full_progress() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    fs::write(&first, zstd(&framed(&requests(2)))).unwrap();
    fs::write(&second, json_lines(1).concat()).unwrap();
    let reader = open(&[&first, &second], 3).unwrap();
    let progress = reader.progress();
    let mut reader = reader.read_into(&MemoryPool::default()).unwrap();
    let stored = 3 * (fs::metadata(&first).unwrap().len() + fs::metadata(&second).unwrap().len());
    assert_eq!((progress.bytes_read(), progress.total_bytes()), (0, Some(stored)));
    let frames: Vec<Frame> = reader.by_ref().map(Result::unwrap).collect();
    let order: Vec<_> = frames
        .iter()
        .map(|frame| (frame.index, frame.repetition, frame.encoding, frame.offset == 0))
        .collect();
    use Encoding::{Json, Protobuf};
    let expected: Vec<_> = (0..3_u32)
        .flat_map(|pass| [(pass, Protobuf, true), (pass, Protobuf, false), (pass, Json, true)])
        .zip(0_u64..)
        .map(|((pass, encoding, starts), index)| (index, pass, encoding, starts))
        .collect();
    assert_eq!(order, expected);
    assert!(frames[2].input.ends_with("second"));
    assert_eq!(progress.bytes_read(), stored);
    assert!(reader.next().is_none());
}

#[test]
fn nothing_comes_after_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [framed(&requests(1)), vec![0, 0]].concat()).unwrap();
    let reader = open(&[file.path(), file.path()], 5).unwrap();
    let mut reader = reader.read_into(&MemoryPool::default()).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert!(matches!(reader.next(), Some(Err(InputError::Truncated { .. }))));
    assert!(reader.next().is_none() && reader.next().is_none());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_requests_or_an_error(bytes: Vec<u8>) {
        let _ = found(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_good_start_are_requests_or_an_error(tail: Vec<u8>, json: bool) {
        let start = if json { json_lines(1).concat() } else { framed(&requests(1)) };
        let _ = found(&[start, tail].concat());
    }
}
