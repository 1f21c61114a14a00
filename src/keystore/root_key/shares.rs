//! Shares of a root key, for people who keep it apart: any `needed` of them give the key, and fewer
//! give nothing (Shamir, How to share a secret, 1979).
//!
//! A share is one line of a text file, which can also be written down by hand:
//! `keymill-root-share-v1 NEEDED/TOTAL SET CHECK NUMBER VALUE SUM`. NUMBER and VALUE are a point of
//! polynomials over GF(2^8) with the reducing polynomial 0x11d, one for each byte of `0x01 ‖ root
//! key`. SET is drawn for each export. CHECK is derived from the root key, so that what the shares
//! give is known to be right. SUM, of SHA-256, finds a share with a slip of the pen.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::keystore::root_key::RootKey;
use blahaj::{Share as Point, Sharks};
use hex_simd::AsciiCase;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const PREFIX: &str = "keymill-root-share-v1 ";
/// The byte before the root key, so that other tools that treat secrets as numbers keep its zeros.
const MARK: u8 = 1;
const SECRET_BYTES: usize = 1 + 32;
const SET_BYTES: usize = 4;
const CHECK_BYTES: usize = 8;
const SUM_BYTES: usize = 4;
/// No share is longer.
pub const LINE_BYTES_MAX: usize = 256;

/// How many shares there are, and how many give the key: `3/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    needed: u8,
    total: u8,
}

impl Quorum {
    /// So many shares give the key.
    #[must_use]
    pub fn needed(self) -> u8 {
        self.needed
    }
}

impl FromStr for Quorum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused =
            || format!("{text:?} is not NEEDED/TOTAL, such as 3/5: 2 to 255, NEEDED of TOTAL");
        let (needed, total) = text.split_once('/').ok_or_else(refused)?;
        let number = |text: &str| text.parse::<u8>().map_err(|_| refused());
        let (needed, total) = (number(needed)?, number(total)?);
        if needed < 2 || needed > total {
            return Err(refused());
        }
        Ok(Self { needed, total })
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.needed, self.total)
    }
}

/// One share. It prints nothing of itself.
pub struct Share {
    quorum: Quorum,
    set: [u8; SET_BYTES],
    check: [u8; CHECK_BYTES],
    point: Point,
}

/// Why shares do not give a root key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The text is not a share.
    #[error("share {0} is not a share of a root key, or is damaged: compare it with the original")]
    Form(usize),
    /// Shares of two exports.
    #[error("share {0} is of another export than the first: take shares of one export")]
    Set(usize),
    /// One share twice.
    #[error("share {0} is one that was given already: each counts once")]
    Twice(usize),
    /// Too few.
    #[error("{needed} shares are needed, and {given} were given")]
    Few {
        /// So many give the key.
        needed: u8,
        /// So many were given.
        given: usize,
    },
    /// The key that they give is not the one that was exported.
    #[error("the shares do not give the root key that was exported: one of them was changed")]
    Check,
}

/// Shares a root key. Each share is a line with a line feed.
///
/// # Errors
/// [`EntropyError`].
///
/// # Panics
/// Never: the shares that were just made give the key.
pub fn export(
    key: &RootKey,
    quorum: Quorum,
    entropy: &Entropy,
) -> Result<Vec<Zeroizing<String>>, EntropyError> {
    let mut set = [0; SET_BYTES];
    entropy.draw(&mut set)?;
    let secret = Secret::<SECRET_BYTES>::filled(|bytes| {
        bytes[0] = MARK;
        bytes[1..].copy_from_slice(key.0.expose());
    });
    let mut coefficients = ChaCha20Rng::from_seed(*entropy.draw_secret::<32>()?.expose());
    let points = Sharks(quorum.needed).dealer_rng(secret.expose(), &mut coefficients);
    let check = check(key);
    let shares: Vec<_> = points
        .take(usize::from(quorum.total))
        .map(|point| Share {
            quorum,
            set,
            check,
            point,
        })
        .collect();
    // What is put into drawers was tried before.
    let last = shares.len() - usize::from(quorum.needed);
    let tried = combined(&shares[last..]).expect("they were made of the key");
    assert!(tried.0.ct_eq(key.0.expose()), "they were made of the key");
    Ok(shares.iter().map(Share::line).collect())
}

/// The root key of shares, each the text of a file. More than are needed are welcome.
///
/// # Errors
/// [`ShareError`]; the number in it counts the texts from one.
pub fn import(texts: &[Zeroizing<String>]) -> Result<RootKey, ShareError> {
    let mut shares: Vec<Share> = Vec::new();
    for (number, text) in (1..).zip(texts) {
        let share = Share::parse(text).ok_or(ShareError::Form(number))?;
        if let Some(first) = shares.first()
            && (first.quorum, first.set, first.check) != (share.quorum, share.set, share.check)
        {
            return Err(ShareError::Set(number));
        }
        if shares.iter().any(|other| other.point.x == share.point.x) {
            return Err(ShareError::Twice(number));
        }
        shares.push(share);
    }
    let needed = shares.first().map_or(2, |share| share.quorum.needed);
    let given = shares.len();
    if given < usize::from(needed) {
        return Err(ShareError::Few { needed, given });
    }
    combined(&shares).ok_or(ShareError::Check)
}

fn combined(shares: &[Share]) -> Option<RootKey> {
    let first = shares.first()?;
    let points = shares.iter().map(|share| &share.point);
    let secret = Zeroizing::new(Sharks(first.quorum.needed).recover(points).ok()?);
    let (&MARK, key) = secret.split_first()? else {
        return None;
    };
    let key: &[u8; 32] = key.try_into().ok()?;
    let key = RootKey(Secret::filled(|bytes| bytes.copy_from_slice(key)));
    (check(&key) == first.check).then_some(key)
}

/// Says which root key it is, and nothing about it.
fn check(key: &RootKey) -> [u8; CHECK_BYTES] {
    let derived = key.subkey("shares");
    let (check, _) = derived.expose().split_first_chunk().expect("8 of 32 bytes");
    *check
}

impl Share {
    fn line(&self) -> Zeroizing<String> {
        let Self {
            quorum, set, check, ..
        } = self;
        let value = Zeroizing::new(Vec::from(&self.point));
        let (number, value) = value.split_first().expect("a point has a number");
        let value = hex(value);
        let (set, check) = (hex(set), hex(check));
        let mut line = Zeroizing::new(String::with_capacity(LINE_BYTES_MAX));
        line.push_str(PREFIX);
        for word in [
            &quorum.to_string(),
            &*set,
            &*check,
            &number.to_string(),
            &*value,
        ] {
            line.push_str(word);
            line.push(' ');
        }
        let sum = hex(&sum(&line));
        line.push_str(&sum);
        line.push('\n');
        line
    }

    /// Space around it, and upper case, come of writing it down.
    fn parse(text: &str) -> Option<Self> {
        let text = Zeroizing::new(text.trim().to_lowercase());
        let (line, written) = text.split_at(text.rfind(' ')? + 1);
        if sum(line) != bytes::<SUM_BYTES>(written)? {
            return None;
        }
        let words: Vec<_> = line.strip_prefix(PREFIX)?.trim_end().split(' ').collect();
        let [quorum, set, check, number, value] = words[..] else {
            return None;
        };
        let number = number.parse().ok().filter(|number| *number > 0)?;
        let value = Zeroizing::new(bytes::<SECRET_BYTES>(value)?);
        let mut point = Zeroizing::new(vec![number]);
        point.reserve_exact(SECRET_BYTES);
        point.extend_from_slice(&*value);
        Some(Self {
            quorum: quorum.parse().ok()?,
            set: bytes(set)?,
            check: bytes(check)?,
            point: Point::try_from(point.as_slice()).ok()?,
        })
    }
}

fn sum(line: &str) -> [u8; SUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(line).into();
    let (sum, _) = digest.split_first_chunk().expect("4 of 32 bytes");
    *sum
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(hex_simd::encode_to_string(bytes, AsciiCase::Lower))
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let bytes = Zeroizing::new(hex_simd::decode_to_vec(hex).ok()?);
    bytes.as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exported(quorum: &str) -> (RootKey, Vec<Zeroizing<String>>) {
        let key = RootKey::draw();
        let shares = export(&key, quorum.parse().unwrap(), &Entropy::os()).unwrap();
        (key, shares)
    }

    fn of(shares: &[Zeroizing<String>], numbers: &[usize]) -> Vec<Zeroizing<String>> {
        numbers.iter().map(|&at| shares[at].clone()).collect()
    }

    #[test]
    fn any_of_enough_shares_give_the_key_and_fewer_give_nothing() {
        let (key, shares) = exported("3/5");
        assert_eq!(shares.len(), 5);
        for numbers in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
            let found = import(&of(&shares, &numbers)).unwrap();
            assert!(found.0.ct_eq(key.0.expose()));
        }
        assert!(import(&shares).unwrap().0.ct_eq(key.0.expose()));
        let few = import(&of(&shares, &[0, 4]));
        let expected = ShareError::Few {
            needed: 3,
            given: 2,
        };
        assert_eq!(few.err(), Some(expected));
        assert!(import(&[]).is_err());
        for share in &shares {
            assert!(share.len() <= LINE_BYTES_MAX, "{}", share.len());
            assert!(!share.contains(&**hex(key.0.expose())));
        }
    }

    #[test]
    fn shares_that_do_not_go_together_are_named() {
        let (key, shares) = exported("2/3");
        let again = export(&key, "2/3".parse().unwrap(), &Entropy::os()).unwrap();
        let mixed = vec![shares[0].clone(), again[1].clone()];
        assert_eq!(import(&mixed).err(), Some(ShareError::Set(2)));
        let twice = of(&shares, &[1, 1]);
        assert_eq!(import(&twice).err(), Some(ShareError::Twice(2)));
    }

    #[test]
    fn a_share_may_be_copied_by_hand_and_a_slip_is_found() {
        let (key, shares) = exported("2/2");
        let upper = Zeroizing::new(format!("  {}\r\n", shares[0].trim().to_uppercase()));
        let found = import(&[upper, shares[1].clone()]).unwrap();
        assert!(found.0.ct_eq(key.0.expose()));
        let digits = shares[1]
            .char_indices()
            .filter(|(_, c)| c.is_ascii_hexdigit());
        for (at, _) in digits {
            let mut slip = shares[1].to_string();
            let other = if &slip[at..=at] == "1" { "2" } else { "1" };
            slip.replace_range(at..=at, other);
            if slip != **shares[1] {
                let refused = import(&[shares[0].clone(), Zeroizing::new(slip)]);
                assert_eq!(refused.err(), Some(ShareError::Form(2)), "place {at}");
            }
        }
    }

    /// A share with a right sum, and another value: by one who can count.
    #[test]
    fn a_share_that_was_changed_on_purpose_gives_no_other_key() {
        let (_, shares) = exported("2/3");
        let mut share = Share::parse(&shares[1]).unwrap();
        share.point.y[7] = blahaj::Share::try_from(&[1, 0x5a][..]).unwrap().y[0].clone();
        let refused = import(&[shares[0].clone(), share.line()]);
        assert_eq!(refused.err(), Some(ShareError::Check));
    }

    #[test]
    fn quorums_are_of_two_at_least() {
        for text in ["2/2", "2/255", "3/5"] {
            assert_eq!(text.parse::<Quorum>().unwrap().to_string(), text);
        }
        for text in [
            "", "3", "1/2", "0/0", "6/5", "2/256", "-2/3", "2/3/4", "a/b",
        ] {
            let refused = text.parse::<Quorum>().unwrap_err();
            assert!(refused.contains("such as 3/5"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", at in 0_usize..200, with in any::<char>()) {
            assert!(import(&[Zeroizing::new(text)]).is_err());
            let (_, shares) = exported("2/2");
            let mut line: Vec<char> = shares[0].chars().collect();
            let at = at % line.len();
            line[at] = with;
            let line = Zeroizing::new(line.into_iter().collect::<String>());
            drop(import(&[line, shares[1].clone()]));
        }
    }
}
