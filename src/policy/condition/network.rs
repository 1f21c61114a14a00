//! Ranges of addresses: an address, or an address with a prefix length (RFC 4632, RFC 4291).

use std::net::IpAddr;

/// The addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Network {
    V4 { bits: u32, mask: u32 },
    V6 { bits: u128, mask: u128 },
}

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED_BITS: u32 = 96;

impl Network {
    /// Parses a range. Bits after the prefix are taken as zeros.
    pub(in crate::policy) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= bits)?
            }
            Some(_) => return None,
        };
        // Addresses are compared in canonical form, so a mapped address is an IPv4 address here
        // too.
        Some(match address {
            IpAddr::V6(v6) if length >= MAPPED_BITS => match v6.to_ipv4_mapped() {
                Some(v4) => Self::v4(v4.to_bits(), length - MAPPED_BITS),
                None => Self::v6(v6.to_bits(), length),
            },
            IpAddr::V6(v6) => Self::v6(v6.to_bits(), length),
            IpAddr::V4(v4) => Self::v4(v4.to_bits(), length),
        })
    }

    fn v4(bits: u32, length: u32) -> Self {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        let bits = bits & mask;
        Self::V4 { bits, mask }
    }

    fn v6(bits: u128, length: u32) -> Self {
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let bits = bits & mask;
        Self::V6 { bits, mask }
    }

    pub(in crate::policy) fn contains(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4 { bits, mask }, IpAddr::V4(v4)) => v4.to_bits() & mask == bits,
            (Self::V6 { bits, mask }, IpAddr::V6(v6)) => v6.to_bits() & mask == bits,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        for (network, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.7/24", "203.0.113.1", "203.0.112.255"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            let found = Network::parse(network).unwrap();
            assert!(
                found.contains(inside.parse().unwrap()),
                "{network} {inside}"
            );
            assert!(
                !found.contains(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "::/129",
            "10.0.0.*",
            " 10.0.0.1",
            "010.0.0.1",
            "*",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
