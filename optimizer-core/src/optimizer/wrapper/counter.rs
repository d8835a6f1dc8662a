//! Counts in slots: a slot holds f32, which is exact only up to 2²⁴, so a count is kept as two halves of 16 bits.

use crate::optimizer::Slot;

/// Number of values of a counter in one lane.
pub(crate) const SIZE: usize = 2;

/// A counter slot that starts at one count a lane.
pub(crate) fn slot(name: String, counts: &[u32]) -> Slot {
    let mut slot = Slot::filled(name, [SIZE], counts.len(), 0.0);
    for (lane, &count) in counts.iter().enumerate() {
        write(&mut slot, lane, count);
    }
    slot
}

/// The count of one lane. What is no count in a damaged state reads as some count.
pub(crate) fn read(slot: &Slot, lane: usize) -> u32 {
    let values = slot.lane(lane);
    (values[0] as u32).wrapping_shl(16).wrapping_add(values[1] as u32)
}

/// Sets the count of one lane.
pub(crate) fn write(slot: &mut Slot, lane: usize, count: u32) {
    slot.lane_mut(lane).copy_from_slice(&[(count >> 16) as f32, (count & 0xffff) as f32]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_survives() {
        let counts = [0, 1, 65_535, 65_536, 16_777_217, u32::MAX - 1, u32::MAX];
        let slot = slot("count".into(), &counts);
        for (lane, count) in counts.into_iter().enumerate() {
            assert_eq!(read(&slot, lane), count);
        }
    }
}
