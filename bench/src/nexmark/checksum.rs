//! One number for rows in any order.

use std::hash::{Hash, Hasher};

/// The checksum of a row; those of many are added, wrapping around, so that their order does not matter.
#[inline]
pub fn checksum<T: Hash>(row: &T) -> u64 {
    let mut mixed = Mixed(0);
    row.hash(&mut mixed);
    mixed.finish()
}

/// The checksum of rows.
pub fn checksum_of<T: Hash>(rows: impl IntoIterator<Item = T>) -> u64 {
    rows.into_iter().fold(0, |sum, row| sum.wrapping_add(checksum(&row)))
}

/// Cheap, for every row of every system pays for it; no defence against anybody.
struct Mixed(u64);

impl Hasher for Mixed {
    #[inline]
    fn write_u64(&mut self, part: u64) {
        self.0 = (self.0.rotate_left(29) ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[inline]
    fn write_i64(&mut self, part: i64) {
        self.write_u64(part.cast_unsigned());
    }

    #[inline]
    fn write_usize(&mut self, part: usize) {
        self.write_u64(part as u64);
    }

    #[inline]
    fn write_u8(&mut self, part: u8) {
        self.write_u64(part.into());
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut part = [0; 8];
            part[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(part));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_in_them_does() {
        let rows = [(1u64, "a", -1i64), (2, "a longer text", 7), (2, "b", 7)];
        let of = |rows: &[(u64, &str, i64)]| checksum_of(rows.iter());
        assert_eq!(of(&rows), of(&[rows[2], rows[0], rows[1]]));
        for other in [(3, "a", -1), (1, "b", -1), (1, "a", 0)] {
            assert_ne!(of(&rows), of(&[other, rows[1], rows[2]]));
        }
        assert_ne!(of(&rows), of(&rows[..2]));
        assert_ne!(of(&[(1, "x", 2), (3, "x", 4)]), of(&[(1, "x", 4), (3, "x", 2)]));
    }
}
