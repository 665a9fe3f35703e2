//! Where the account's own people call from, as its owner says: what a condition on the caller's network or organization is
//! checked against. Everything else about a request is the caller's choice, or isn't known.

use std::net::IpAddr;

/// The networks and organizations that are the owner's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedSources {
    ranges: Vec<Range>,
    vpcs: Vec<String>,
    endpoints: Vec<String>,
    organizations: Vec<String>,
}

/// Where a caller calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network<'a> {
    /// Nothing is known.
    Anywhere,
    Address(IpAddr),
    Vpc(&'a str),
    Endpoint(&'a str),
}

/// How many networks are tried for one policy; beyond that a policy is reported rather than judged for long.
const MOST_NETWORKS: usize = 16;

impl TrustedSources {
    /// None trusted.
    pub const NONE: Self =
        Self { ranges: Vec::new(), vpcs: Vec::new(), endpoints: Vec::new(), organizations: Vec::new() };

    /// Reads a list with commas between: CIDRs, `vpc-…`, `vpce-…` and `o-…`.
    ///
    /// # Errors
    /// The first that is none of these.
    pub fn read(list: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for source in list.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let id = |prefix: &str, length: std::ops::RangeInclusive<usize>| {
                let rest = source.strip_prefix(prefix).unwrap_or_default();
                length.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            };
            if id("vpce-", 8..=17) {
                read.endpoints.push(source.into());
            } else if id("vpc-", 8..=17) {
                read.vpcs.push(source.into());
            } else if id("o-", 10..=32) {
                read.organizations.push(source.into());
            } else if let Some(range) = Range::read(source).filter(|range| range.bits > 0) {
                read.ranges.push(range);
            } else {
                return Err(source.to_owned());
            }
        }
        Ok(read)
    }

    /// The organizations that the account may be in; None stands for one that isn't known.
    pub(super) fn organizations(&self) -> Vec<Option<&str>> {
        let named: Vec<_> = self.organizations.iter().take(4).map(|id| Some(id.as_str())).collect();
        if named.is_empty() { vec![None] } else { named }
    }

    /// The networks that a policy may be tried from, beginning with the unknown one: of a trusted range its ends, and the
    /// addresses where a range of the policy begins within it, so that all a policy tells apart is tried.
    pub(super) fn networks<'a>(&'a self, written: impl Iterator<Item = Range>) -> Vec<Network<'a>> {
        let ends = self.ranges.iter().flat_map(|range| [range.first(), range.last()]);
        let within = written
            .map(|range| range.first())
            .filter(|address| self.ranges.iter().any(|trusted| trusted.holds(*address)));
        let mut networks = vec![Network::Anywhere];
        networks.extend(self.vpcs.iter().map(|id| Network::Vpc(id)));
        networks.extend(self.endpoints.iter().map(|id| Network::Endpoint(id)));
        networks.extend(ends.chain(within).map(Network::Address));
        networks.truncate(MOST_NETWORKS);
        networks
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    address: IpAddr,
    bits: u8,
}

impl Range {
    /// Reads an address, or one with the length of its prefix.
    pub fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(Self { address, bits })
    }

    /// Whether the address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => (ours.to_bits() ^ other.to_bits()) & self.mask_v4() == 0,
            (IpAddr::V6(ours), IpAddr::V6(other)) => (ours.to_bits() ^ other.to_bits()) & self.mask_v6() == 0,
            _ => false,
        }
    }

    /// Whether callers can come from it: not everything, and nothing that KMS never sees as a caller's address.
    pub fn is_callers(&self) -> bool {
        let seen = match self.address {
            IpAddr::V4(ip) => {
                let own = ip.is_unspecified() || ip.is_loopback() || ip.is_private() || ip.is_link_local();
                !(own || ip.is_multicast() || ip.is_broadcast())
            }
            IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_unique_local() || ip.is_multicast()),
        };
        seen && self.bits > 0
    }

    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & self.mask_v4()).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & self.mask_v6()).into()),
        }
    }

    fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() | !self.mask_v4()).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() | !self.mask_v6()).into()),
        }
    }

    fn mask_v4(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    fn mask_v6(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_source_is_taken() {
        let list = "198.51.100.0/24, 2001:db8::/32, vpc-0a1b2c3d, vpce-0a1b2c3d4e5f60718, o-a1b2c3d4e5";
        let read = TrustedSources::read(list).unwrap();
        assert_eq!((read.ranges.len(), read.vpcs.len(), read.endpoints.len(), read.organizations.len()), (2, 1, 1, 1));
        assert_eq!(TrustedSources::read(" , "), Ok(TrustedSources::NONE));
    }

    #[test]
    fn what_is_no_source_is_named() {
        for wrong in ["0.0.0.0/0", "198.51.100.0/33", "vpc-", "vpce-0", "o-1", "example.com", "*", "subnet-0a1b2c3d"] {
            assert_eq!(TrustedSources::read(&format!("vpc-0a1b2c3d,{wrong}")), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn range_holds_what_begins_like_it() {
        let range = |text: &str| Range::read(text).unwrap();
        let holds = |text: &str, address: &str| range(text).holds(address.parse().unwrap());
        assert!(holds("198.51.100.7/24", "198.51.100.200") && !holds("198.51.100.0/24", "198.51.101.0"));
        assert!(holds("0.0.0.0/0", "192.0.2.1") && holds("192.0.2.1", "192.0.2.1") && !holds("::/0", "192.0.2.1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::") && !holds("2001:db8::/32", "2001:db9::"));
        assert_eq!(range("198.51.100.7/24").last(), "198.51.100.255".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn range_that_nobody_calls_from_is_none() {
        let callers = |text: &str| Range::read(text).unwrap().is_callers();
        assert!(callers("203.0.113.0/24") && callers("203.0.113.7") && callers("2001:db8::/32"));
        for range in [
            "0.0.0.0/0",
            "::/0",
            "203.0.113.0/0",
            "127.0.0.1/32",
            "10.0.0.0/8",
            "192.168.1.1",
            "169.254.0.0/16",
            "fd00::/8",
            "224.0.0.0/4",
        ] {
            assert!(!callers(range), "{range}");
        }
    }
}
