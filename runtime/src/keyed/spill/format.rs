//! How a key stands on disk, and how it is checked before anything of it is believed.
//!
//! A file is a sequence of records at multiples of [`ALIGN`]; the first has no payload and says whose file it is. What
//! stands in a file is untrusted: it may have been torn, flipped, misdirected or planted. A record is checked in this
//! order, and nothing behind a check is looked at before it: length, magic, version, the header's checksum, schema,
//! identity (pipeline, stage, instance, run, file, place), payload length, the payload's checksum. Only then are the
//! payload's bytes given to the accumulator. All numbers are little-endian.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use crate::disk::FileName;
use crate::observe::StageContext;

/// Records start at multiples of this; so do payloads.
pub(super) const ALIGN: usize = 16;
/// Bytes of a record before its payload.
pub(super) const HEADER: usize = 80;
/// Bytes that the payload of one record may have.
pub(super) const MAX_PAYLOAD: usize = 1 << 30;

const MAGIC: [u8; 4] = *b"CLsp";
const VERSION: u16 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first of a file: says whose it is.
    File = 1,
    /// A key with its state.
    Key = 2,
}

/// Whose records these are. Ids stand as hashes: they are compared, never used as names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pipeline: u64,
    pub(crate) stage: u64,
    pub(crate) instance: u32,
    /// The run: no two have the same.
    pub(crate) epoch: u64,
    /// The layout of the payload.
    pub(crate) schema: u64,
}

impl Identity {
    pub(crate) fn new(context: &StageContext, epoch: u64, schema: u64) -> Self {
        Self {
            pipeline: xxh3_64(context.pipeline_id.as_bytes()),
            stage: xxh3_64(context.stage_id.as_str().as_bytes()),
            instance: u32::try_from(context.instance).unwrap_or(u32::MAX),
            epoch,
            schema,
        }
    }

    /// The name of segment number `segment`.
    pub(super) fn file_name(&self, segment: u32) -> FileName {
        let mut text = [0; 32];
        text[..8].copy_from_slice(&self.pipeline.to_le_bytes());
        text[8..16].copy_from_slice(&self.stage.to_le_bytes());
        text[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        text[24..28].copy_from_slice(&self.instance.to_le_bytes());
        text[28..].copy_from_slice(&segment.to_le_bytes());
        FileName(xxh3_128(&text))
    }
}

/// Where a record stands: a segment number is used once in a run, so this is also its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// Why a record is not what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends before its header or its payload does.
    #[error("it is cut off")]
    Truncated,
    /// It does not begin as a record does.
    #[error("it is no record of spilled state")]
    Magic,
    /// It was written by another version.
    #[error("it has format version {0}, not {VERSION}")]
    Version(u16),
    /// Its header is damaged.
    #[error("the checksum of its header is wrong")]
    Header,
    /// Its state has another layout.
    #[error("its state has another layout")]
    Schema,
    /// It belongs to something else: another pipeline, stage, instance, run or place.
    #[error("it belongs to something else")]
    Foreign,
    /// Its length is not that of what was written.
    #[error("its length is wrong")]
    Length,
    /// Its payload is damaged.
    #[error("the checksum of its payload is wrong")]
    Payload,
}

/// Bytes of a record with `payload` bytes, up to the next one.
pub(super) fn record_len(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    record[at..at + bytes.len()].copy_from_slice(bytes);
}

fn header_sum(header: &[u8]) -> u64 {
    // Seeded, so that a header of zeros has no valid checksum.
    xxh3_64_with_seed(&header[..72], 0x636f_7265_6c61_6e65)
}

/// Fills in the header of `record`, which has room for it before `payload` bytes of payload.
pub(super) fn seal(record: &mut [u8], kind: Kind, identity: &Identity, spot: Spot, payload: usize) {
    let sum = xxh3_128(&record[HEADER..HEADER + payload]);
    put(record, 0, &MAGIC);
    put(record, 4, &VERSION.to_le_bytes());
    put(record, 6, &(kind as u16).to_le_bytes());
    put(record, 8, &identity.schema.to_le_bytes());
    put(record, 16, &identity.pipeline.to_le_bytes());
    put(record, 24, &identity.stage.to_le_bytes());
    put(record, 32, &identity.instance.to_le_bytes());
    put(record, 36, &spot.segment.to_le_bytes());
    put(record, 40, &identity.epoch.to_le_bytes());
    put(record, 48, &spot.offset.to_le_bytes());
    put(record, 52, &(payload as u32).to_le_bytes());
    put(record, 56, &sum.to_le_bytes());
    let sum = header_sum(record);
    put(record, 72, &sum.to_le_bytes());
}

/// The first record of a file.
pub(super) fn file_header(identity: &Identity, segment: u32) -> [u8; HEADER] {
    let mut record = [0; HEADER];
    seal(&mut record, Kind::File, identity, Spot { segment, offset: 0 }, 0);
    record
}

fn number<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[at..at + N]);
    bytes
}

/// The header's own checks: that it is a whole header of this version, whoever's.
fn check_header(record: &[u8]) -> Result<(), RecordError> {
    if record.len() < HEADER {
        return Err(RecordError::Truncated);
    }
    if record[..4] != MAGIC {
        return Err(RecordError::Magic);
    }
    let version = u16::from_le_bytes(number(record, 4));
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    if u64::from_le_bytes(number(record, 72)) != header_sum(record) {
        return Err(RecordError::Header);
    }
    Ok(())
}

/// The payload of the record at the start of `bytes`, if that is the key of `identity` that was written to `spot` with
/// `payload` bytes.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    identity: &Identity,
    spot: Spot,
    payload: usize,
) -> Result<&'a [u8], RecordError> {
    check_header(bytes)?;
    if u64::from_le_bytes(number(bytes, 8)) != identity.schema {
        return Err(RecordError::Schema);
    }
    let mut expected = [0; HEADER];
    expected[..HEADER].copy_from_slice(&bytes[..HEADER]);
    put(&mut expected, 6, &(Kind::Key as u16).to_le_bytes());
    put(&mut expected, 16, &identity.pipeline.to_le_bytes());
    put(&mut expected, 24, &identity.stage.to_le_bytes());
    put(&mut expected, 32, &identity.instance.to_le_bytes());
    put(&mut expected, 36, &spot.segment.to_le_bytes());
    put(&mut expected, 40, &identity.epoch.to_le_bytes());
    put(&mut expected, 48, &spot.offset.to_le_bytes());
    if expected != bytes[..HEADER] {
        return Err(RecordError::Foreign);
    }
    if u32::from_le_bytes(number(bytes, 52)) as usize != payload {
        return Err(RecordError::Length);
    }
    let body = bytes.get(HEADER..HEADER + payload).ok_or(RecordError::Truncated)?;
    if u128::from_le_bytes(number(bytes, 56)) != xxh3_128(body) {
        return Err(RecordError::Payload);
    }
    Ok(body)
}

/// Whether `start`, the first bytes of a file, say that the pipeline named `pipeline_id` wrote it, in whatever run.
pub(crate) fn is_spill_file_of(start: &[u8], pipeline_id: &str) -> bool {
    check_header(start).is_ok()
        && u16::from_le_bytes(number(start, 6)) == Kind::File as u16
        && u64::from_le_bytes(number(start, 16)) == xxh3_64(pipeline_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity { pipeline: 1, stage: 2, instance: 3, epoch: 4, schema: 5 };
    const SPOT: Spot = Spot { segment: 6, offset: 96 };

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut record = vec![0; record_len(payload.len())];
        put(&mut record, HEADER, payload);
        seal(&mut record, Kind::Key, &IDENTITY, SPOT, payload.len());
        record
    }

    fn reopened(record: &[u8], payload: usize) -> Result<&[u8], RecordError> {
        open(record, &IDENTITY, SPOT, payload)
    }

    /// A header changed on purpose, its checksum made good again.
    fn resealed(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut record = record(b"state");
        change(&mut record);
        let sum = header_sum(&record);
        put(&mut record, 72, &sum.to_le_bytes());
        record
    }

    #[test]
    fn fault_80_payloads_of_any_size_come_back_as_they_were() {
        for len in [0, 1, 15, 16, 17, 4096, 10_000_000] {
            let payload: Vec<u8> = (0..len).map(|i: usize| i as u8).collect();
            let record = record(&payload);
            assert_eq!(record.len() % ALIGN, 0);
            assert_eq!(reopened(&record, len), Ok(&payload[..]));
        }
    }

    #[test]
    fn fault_46_a_record_cut_off_anywhere_is_refused() {
        let record = record(b"the state of a key");
        for end in 0..HEADER + 18 {
            assert_eq!(reopened(&record[..end], 18), Err(RecordError::Truncated), "{end}");
        }
    }

    #[test]
    fn fault_47_every_single_flipped_bit_is_found() {
        let good = record(b"the state of a key");
        for bit in 0..(HEADER + 18) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(reopened(&bad, 18).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn fault_48_magic_version_byte_order_and_layout_are_told_apart() {
        assert_eq!(reopened(&resealed(|r| r[0] ^= 1), 5), Err(RecordError::Magic));
        assert_eq!(reopened(&resealed(|r| r[..4].reverse()), 5), Err(RecordError::Magic));
        assert_eq!(reopened(&resealed(|r| r[4] = 2), 5), Err(RecordError::Version(2)));
        assert_eq!(reopened(&resealed(|r| r[4..6].reverse()), 5), Err(RecordError::Version(256)));
        assert_eq!(reopened(&resealed(|r| r[8] ^= 1), 5), Err(RecordError::Schema));
    }

    #[test]
    fn fault_49_a_valid_record_of_anything_else_is_foreign() {
        let record = record(b"state");
        for identity in [
            Identity { pipeline: 9, ..IDENTITY },
            Identity { stage: 9, ..IDENTITY },
            Identity { instance: 9, ..IDENTITY },
            Identity { epoch: 9, ..IDENTITY },
        ] {
            assert_eq!(open(&record, &identity, SPOT, 5), Err(RecordError::Foreign));
        }
        for spot in [Spot { segment: 7, ..SPOT }, Spot { offset: 112, ..SPOT }] {
            assert_eq!(open(&record, &IDENTITY, spot, 5), Err(RecordError::Foreign));
        }
        let file = resealed(|r| put(r, 6, &(Kind::File as u16).to_le_bytes()));
        assert_eq!(reopened(&file, 5), Err(RecordError::Foreign));
    }

    #[test]
    fn fault_50_a_length_that_is_too_great_is_refused_before_anything_is_read() {
        for len in [6, u32::MAX] {
            let record = resealed(|r| put(r, 52, &len.to_le_bytes()));
            assert_eq!(reopened(&record, 5), Err(RecordError::Length));
            let cut = &record[..HEADER + 5];
            assert_eq!(reopened(cut, len as usize), Err(RecordError::Truncated));
        }
    }

    #[test]
    fn fault_51_zeros_are_no_record_and_a_zeroed_tail_is_found() {
        assert_eq!(reopened(&[0; 200], 5), Err(RecordError::Magic));
        let good = record(&[7; 100]);
        for from in [HEADER, HEADER + 50, HEADER + 99] {
            let mut bad = good.clone();
            bad[from..].fill(0);
            assert_eq!(reopened(&bad, 100), Err(RecordError::Payload));
        }
    }

    #[test]
    fn a_file_says_whose_it_is() {
        let context = StageContext::new("orders", crate::model::StageId::new("count").unwrap());
        let identity = Identity::new(&context, 1, 2);
        let header = file_header(&identity, 3);
        assert!(is_spill_file_of(&header, "orders") && !is_spill_file_of(&header, "others"));
        assert!(
            !is_spill_file_of(&header[..HEADER - 1], "orders") && !is_spill_file_of(&record(b""), "orders")
        );
        let names: std::collections::BTreeSet<_> = (0..100).map(|n| identity.file_name(n)).collect();
        assert_eq!(names.len(), 100);
        assert_ne!(identity.file_name(0), Identity { epoch: 2, ..identity }.file_name(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0usize..400) {
            prop_assert!(reopened(&bytes, len).is_err());
            prop_assert!(!is_spill_file_of(&bytes, "p"));
        }

        #[test]
        fn any_change_of_any_bytes_of_a_record_is_found(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            with in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let good = record(&payload);
            let mut bad = good.clone();
            let at = at.index(HEADER + payload.len());
            let end = (at + with.len()).min(HEADER + payload.len());
            bad[at..end].copy_from_slice(&with[..end - at]);
            prop_assert_eq!(reopened(&bad, payload.len()).is_ok(), bad == good);
        }
    }
}
