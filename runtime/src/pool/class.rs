//! Sizes of blocks. All are whole cache lines, so that buffers of different cores never share one.

use crate::sync::LINE_BYTES;

/// Number of classes.
pub(super) const CLASSES: usize = 4 + 4 * 19;

/// The largest block: 128 MiB.
pub(super) const MAX_BLOCK_BYTES: usize = bytes_of(CLASSES - 1);

/// The class of the smallest block of at least `size` bytes, which is at most [`MAX_BLOCK_BYTES`].
///
/// Up to 256 bytes every multiple of 64 is a class, above that four classes lie between two powers of two: at most a fifth of a
/// block is lost to rounding.
#[inline(always)]
pub(super) const fn class_of(size: usize) -> usize {
    // One less than the lines needed; an empty buffer has a line too.
    let last = size.saturating_sub(1) / LINE_BYTES;
    if last < 4 {
        return last;
    }
    let power = last.ilog2() as usize;
    4 * (power - 1) + ((last >> (power - 2)) & 3)
}

/// Up to this size the class is looked up.
pub(super) const TABLED_BYTES: usize = 32 * 1024;

/// Classes by the number of lines that a buffer needs.
static BY_LINES: [u8; TABLED_BYTES / LINE_BYTES + 1] = {
    let mut table = [0; TABLED_BYTES / LINE_BYTES + 1];
    let mut lines = 0;
    while lines < table.len() {
        table[lines] = class_of(lines * LINE_BYTES) as u8;
        lines += 1;
    }
    table
};

/// [`class_of`], for buffers that most are.
#[expect(
    clippy::manual_div_ceil,
    reason = "the size is small: the sum cannot overflow, and is two instructions less"
)]
#[inline(always)]
pub(super) fn tabled_class(size: usize) -> Option<usize> {
    (size <= TABLED_BYTES).then(|| usize::from(BY_LINES[(size + LINE_BYTES - 1) / LINE_BYTES]))
}

/// Bytes of a block of this class.
pub(super) const fn bytes_of(class: usize) -> usize {
    if class < 4 {
        return (class + 1) * LINE_BYTES;
    }
    let shift = class / 4 - 1;
    ((class % 4 + 5) << shift) * LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it_and_loses_at_most_a_fifth() {
        let mut sizes: Vec<usize> = (0..70_000).collect();
        for class in 0..CLASSES {
            sizes.extend([bytes_of(class) - 1, bytes_of(class), (bytes_of(class) + 1).min(MAX_BLOCK_BYTES)]);
        }
        for size in sizes {
            let class = class_of(size);
            let bytes = bytes_of(class);
            assert!(bytes >= size && bytes.is_multiple_of(LINE_BYTES), "{size} {class}");
            assert!(tabled_class(size).is_none_or(|tabled| tabled == class), "{size} {class}");
            assert_eq!(tabled_class(size).is_some(), size <= TABLED_BYTES);
            assert!(class == 0 || bytes_of(class - 1) < size, "{size} has a smaller class than {class}");
            assert!(size <= 256 || (bytes - size) * 5 <= bytes, "{size} wastes {}", bytes - size);
        }
        assert_eq!(class_of(MAX_BLOCK_BYTES), CLASSES - 1);
        assert_eq!(MAX_BLOCK_BYTES, 128 << 20);
    }
}
