//! Matches texts against patterns with `*` and `?`, in a time that no pattern can raise beyond a
//! bound.
//!
//! The part between two `*` is a segment. The first segment must begin the text and the last must
//! end it. Each of the others is searched after the one before; its first place is the best,
//! because it leaves the most text for the rest. A segment without `?` is found in a time that is
//! linear in the text. One with `?` is found by the Shift-And algorithm (Baeza-Yates and Gonnet, "A
//! new approach to text searching", 1992): 64 elements of the segment are the bits of one word, and
//! a byte of the text moves all of them. So the time is the pattern's length times the text's ÷ 64,
//! plus a table of 256 words for each block of 64 elements.

use crate::policy::steps::Steps;
use memchr::memmem;
use smallvec::SmallVec;

/// Whether letters of different case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Sensitive,
    Insensitive,
}

/// A part of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// `?`: one character.
    AnyOne,
}

/// The elements of a block, the bits of a word.
const BLOCK: usize = 64;
/// The steps of a block's table: its words.
const TABLE_STEPS: usize = 256;
/// The steps of one byte for one block.
const BYTE_STEPS: usize = 2;
/// Texts of up to this many bytes are searched place by place, without a table.
const SHORT_BYTES: usize = 32;
/// The bytes that are compared or searched in a step.
const BYTES_OF_A_STEP: usize = 16;
/// The steps of a character when case is ignored.
const FOLDED_STEPS: usize = 4;
/// The words that record where a block has ended, kept on the stack: for texts of up to 8 KiB, the
/// length of the longest encryption context.
const ENDS_WORDS: usize = 128;

/// Where a text is stripped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
}

impl Side {
    /// Takes the outermost character off `text`.
    fn take(self, text: &mut &str) -> Option<char> {
        let mut characters = text.chars();
        let one = match self {
            Self::Start => characters.next(),
            Self::End => characters.next_back(),
        };
        *text = characters.as_str();
        one
    }
}

/// The rest of `text` without `segment`, if the segment is at that side of it. The parts of the
/// segment come from that side.
pub(super) fn strip<'t, 'p>(
    side: Side,
    text: &'t str,
    segment: impl Iterator<Item = Part<'p>>,
    case: Case,
    steps: &Steps,
) -> Option<&'t str> {
    let mut rest = text;
    for part in segment {
        match part {
            Part::AnyOne => {
                steps.spend(1);
                side.take(&mut rest)?;
            }
            Part::Text(literal) if case == Case::Sensitive => {
                steps.spend(1 + literal.len() / BYTES_OF_A_STEP);
                rest = match side {
                    Side::Start => rest.strip_prefix(literal)?,
                    Side::End => rest.strip_suffix(literal)?,
                };
            }
            Part::Text(mut literal) => {
                while let Some(expected) = side.take(&mut literal) {
                    steps.spend(FOLDED_STEPS);
                    side.take(&mut rest).filter(|one| folded(*one, expected))?;
                }
            }
        }
    }
    Some(rest)
}

fn folded(one: char, other: char) -> bool {
    one == other || one.to_lowercase().eq(other.to_lowercase())
}

/// The rest of `text` after the first place of `segment`.
pub(super) fn find<'t, 'p>(
    text: &'t str,
    segment: impl Iterator<Item = Part<'p>> + Clone,
    case: Case,
    steps: &Steps,
) -> Option<&'t str> {
    let mut parts = segment.clone();
    let end = match (parts.next(), parts.next()) {
        (None, _) => 0,
        // Wildcards without regard to case occur in actions only, and the text is the name of an
        // action: some forty bytes of our own.
        _ if case == Case::Insensitive || text.len() <= SHORT_BYTES => {
            return try_each_place(text, segment, case, steps);
        }
        (Some(Part::Text(literal)), None) => {
            let found = memmem::find(text.as_bytes(), literal.as_bytes());
            let end = found.map(|at| at + literal.len());
            steps.spend(1 + end.unwrap_or(text.len()));
            end?
        }
        _ => find_by_blocks(text, segment, steps)?,
    };
    text.get(end..)
}

fn try_each_place<'t, 'p>(
    text: &'t str,
    segment: impl Iterator<Item = Part<'p>> + Clone,
    case: Case,
    steps: &Steps,
) -> Option<&'t str> {
    let mut rest = text;
    loop {
        if let Some(behind) = strip(Side::Start, rest, segment.clone(), case, steps) {
            return Some(behind);
        }
        let mut characters = rest.chars();
        characters.next()?;
        rest = characters.as_str();
        if steps.are_spent() {
            return None;
        }
    }
}

/// An element of a segment.
#[derive(Clone, Copy)]
enum Element {
    Is(u8),
    AnyOne,
}

/// As many elements of a segment as a word has bits, and the effect of each byte of a text on them.
struct Block {
    /// By byte: the elements that it can be, or can begin.
    may_be: [u64; 256],
    /// The elements that match a character of any length.
    any_one: u64,
    /// The last element.
    last: u64,
}

impl Block {
    /// The next elements; none at the end.
    fn next(elements: &mut impl Iterator<Item = Element>) -> Option<Self> {
        let (mut block, mut count) = ([Element::AnyOne; BLOCK], 0);
        for (place, element) in block.iter_mut().zip(elements) {
            *place = element;
            count += 1;
        }
        let block = &block[..count];
        let bit = |at: usize| 1_u64 << at;
        let last = bit(count.checked_sub(1)?);
        let of_any = |(at, element): (usize, &Element)| match element {
            Element::AnyOne => bit(at),
            Element::Is(_) => 0,
        };
        let any_one = block.iter().enumerate().map(of_any).sum();
        let mut may_be = [any_one; 256];
        // A continuation byte does not begin a character.
        may_be[0x80..0xc0].fill(0);
        for (at, element) in block.iter().enumerate() {
            if let Element::Is(byte) = element {
                may_be[usize::from(*byte)] |= bit(at);
            }
        }
        Some(Self {
            may_be,
            any_one,
            last,
        })
    }
}

/// The state of a block while it reads a text.
struct Run<'b> {
    block: &'b Block,
    /// The elements that were found, each ending at the byte that was read last.
    state: u64,
    /// Whether the first element may come next.
    begins: bool,
}

impl Run<'_> {
    /// Reads a byte. Returns whether the block's last element ends with it.
    fn read(&mut self, byte: u8) -> bool {
        let goes_on = byte & 0xc0 == 0x80;
        let stay = if goes_on {
            self.state & self.block.any_one
        } else {
            0
        };
        let moved = self.state << 1 | u64::from(self.begins);
        self.state = moved & self.block.may_be[usize::from(byte)] | stay;
        self.state & self.block.last != 0
    }
}

/// The end of the first place of a segment.
fn find_by_blocks<'p>(
    text: &str,
    segment: impl Iterator<Item = Part<'p>>,
    steps: &Steps,
) -> Option<usize> {
    let mut elements = segment
        .flat_map(|part| {
            let (literal, any) = match part {
                Part::Text(literal) => (literal, None),
                Part::AnyOne => ("", Some(Element::AnyOne)),
            };
            literal.bytes().map(Element::Is).chain(any)
        })
        .peekable();
    // The ends of the blocks so far, a bit for each byte; before the first block, every place is
    // one.
    let words = text.len().div_ceil(BLOCK);
    let mut ends: SmallVec<[u64; ENDS_WORDS]> = SmallVec::from_elem(u64::MAX, words);
    let mut is_first = true;
    while let Some(block) = Block::next(&mut elements) {
        let is_last = elements.peek().is_none();
        let mut run = Run {
            block: &block,
            state: 0,
            begins: std::mem::take(&mut is_first),
        };
        // Each word of `ends` holds the ends within one piece of the text.
        let pieces = text.as_bytes().chunks(BLOCK).zip(&mut ends).enumerate();
        for (number, (piece, ends)) in pieces {
            let (before, mut after) = (*ends, 0);
            for (at, byte) in piece.iter().enumerate() {
                if run.read(*byte) {
                    after |= 1 << at;
                    let end = number * BLOCK + at + 1;
                    if is_last && text.is_char_boundary(end) {
                        steps.spend(TABLE_STEPS + BYTE_STEPS * end);
                        return Some(end);
                    }
                }
                run.begins = before >> at & 1 == 1;
            }
            *ends = after;
        }
        steps.spend(TABLE_STEPS + BYTE_STEPS * text.len());
        if steps.are_spent() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests;
