//! The Regions that one daemon serves, and what names a key among them.
//!
//! Related multi-Region keys have one id, so an id alone does not name a key: an id in a Region
//! does. In records of the store, keys of the home Region are named by their id, as they were when
//! a daemon served one Region; keys of another Region by `<Region>/<id>`.

use crate::crypto::block_cipher::BlockCipher;
use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName, Arn};

/// The place of a Region in the daemon's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionNumber(u8);

impl RegionNumber {
    /// The first one: of callers that do not sign, and of records that name no Region.
    pub const HOME: Self = Self(0);
    /// Behind every other.
    pub(crate) const LAST: Self = Self(u8::MAX);
}

/// What names one key: its id and its Region. Keys with one id are neighbours in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionalId {
    /// The id.
    pub id: KeyId,
    /// The Region.
    pub region: RegionNumber,
}

impl RegionalId {
    /// The key of this id in the home Region.
    #[must_use]
    pub fn home(id: KeyId) -> Self {
        let region = RegionNumber::HOME;
        Self { id, region }
    }
}

/// In tests, an id is one in the home Region.
#[cfg(test)]
impl std::str::FromStr for RegionalId {
    type Err = crate::key::InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::home)
    }
}

/// A Region that this daemon serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// `us-east-1`, …
    pub name: String,
    /// Its place in the daemon's list.
    pub number: RegionNumber,
}

impl Region {
    /// The partition of the China Regions.
    pub const CHINA: &str = "aws-cn";

    /// Whether this is a China Region, which has other keys and algorithms.
    #[must_use]
    pub fn is_in_china(&self) -> bool {
        self.partition == Self::CHINA
    }

    /// The block cipher of symmetric encryption keys.
    #[must_use]
    pub fn cipher(&self) -> BlockCipher {
        if self.is_in_china() {
            BlockCipher::Sm4
        } else {
            BlockCipher::Aes256
        }
    }

    /// What names the key of this id in this Region.
    #[must_use]
    pub fn id(&self, id: KeyId) -> RegionalId {
        let region = self.number;
        RegionalId { id, region }
    }

    /// The ARN of a key.
    #[must_use]
    pub fn key_arn(&self, account: AccountId, id: KeyId) -> String {
        self.arn(account, &format!("key/{id}"))
    }

    /// The ARN of an alias.
    #[must_use]
    pub fn alias_arn(&self, account: AccountId, alias: &AliasName) -> String {
        self.arn(account, alias.as_str())
    }

    /// `arn:<partition>:kms:<region>:<account>:<resource>`
    #[must_use]
    pub fn arn(&self, account: AccountId, resource: &str) -> String {
        format!(
            "arn:{}:kms:{}:{account}:{resource}",
            self.partition, self.name
        )
    }
}

/// The Regions of a daemon: of one partition, at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    home: Region,
    others: Vec<Region>,
}

/// Text that names nothing in the Regions that are served.
#[derive(Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// It is in this Region, which is not served, or is the home Region, which is never written.
    Region(String),
    /// It is not the name of such a thing.
    Text,
}

impl Regions {
    /// The most Regions of one daemon; AWS has fewer.
    pub const MAX: usize = 64;

    /// These Regions of a partition, the home Region first. Those beyond [`Self::MAX`] are left
    /// out: `config` has refused them before.
    #[must_use]
    pub fn new<'a>(partition: &str, home: &str, others: impl IntoIterator<Item = &'a str>) -> Self {
        let region = |number, name: &str| Region {
            partition: partition.to_owned(),
            name: name.to_owned(),
            number: RegionNumber(number),
        };
        let numbered = (1..).zip(others).take(Self::MAX - 1);
        Self {
            home: region(0, home),
            others: numbered
                .map(|(number, name)| region(number, name))
                .collect(),
        }
    }

    /// One Region.
    #[must_use]
    pub fn one(partition: &str, name: &str) -> Self {
        Self::new(partition, name, [])
    }

    /// The partition of AWS that a Region of this name is in (AWS General Reference, "Regions").
    #[must_use]
    pub fn partition_of(name: &str) -> &'static str {
        match name.split_once('-').map_or("", |(first, _)| first) {
            "cn" => Region::CHINA,
            "us" if name.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// The home Region.
    #[must_use]
    pub fn home(&self) -> &Region {
        &self.home
    }

    /// All, the home Region first.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        std::iter::once(&self.home).chain(&self.others)
    }

    /// The Region of this number.
    ///
    /// # Panics
    /// If the number is of other Regions than these.
    #[must_use]
    pub fn get(&self, number: RegionNumber) -> &Region {
        match usize::from(number.0).checked_sub(1) {
            None => &self.home,
            Some(at) => &self.others[at],
        }
    }

    /// The Region of this name, if it is served.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Region> {
        self.iter().find(|region| region.name == name)
    }

    /// The key that an ARN names, of whatever account.
    #[must_use]
    pub fn key_of(&self, arn: &str) -> Option<RegionalId> {
        let arn = Arn::split(arn)?;
        let region = self.named(arn.region)?.number;
        let id = arn.resource.strip_prefix("key/")?.parse().ok()?;
        Some(RegionalId { id, region })
    }

    /// What is in a Region, as records name it.
    #[must_use]
    pub fn written(&self, region: RegionNumber, text: &str) -> String {
        match region {
            RegionNumber::HOME => text.to_owned(),
            other => format!("{}/{text}", self.get(other).name),
        }
    }

    /// As [`Self::written`], for a key.
    #[must_use]
    pub fn written_key(&self, key: RegionalId) -> String {
        self.written(key.region, &key.id.to_string())
    }

    /// Parses the output of [`Self::written`].
    ///
    /// # Errors
    /// [`Unnamed::Region`].
    pub fn read<'t>(&self, written: &'t str) -> Result<(RegionNumber, &'t str), Unnamed> {
        let Some((name, text)) = written.split_once('/').filter(|(name, _)| is_name(name)) else {
            return Ok((RegionNumber::HOME, written));
        };
        let others = self.others.iter();
        match others.clone().find(|region| region.name == name) {
            Some(region) => Ok((region.number, text)),
            None => Err(Unnamed::Region(name.to_owned())),
        }
    }

    /// Parses the output of [`Self::written_key`].
    ///
    /// # Errors
    /// [`Unnamed`].
    pub fn read_key(&self, written: &str) -> Result<RegionalId, Unnamed> {
        let (region, text) = self.read(written)?;
        let id = text.parse().map_err(|_| Unnamed::Text)?;
        Ok(RegionalId { id, region })
    }
}

/// Whether text can be the name of a Region: 1 to 32 of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Regions {
        Regions::new("aws", "us-east-1", ["us-west-2", "eu-west-1"])
    }

    #[test]
    fn records_name_every_region_but_the_home_region() {
        let regions = regions();
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
        for (name, written) in [
            ("us-east-1", "1234abcd-12ab-34cd-56ef-1234567890ab"),
            (
                "eu-west-1",
                "eu-west-1/1234abcd-12ab-34cd-56ef-1234567890ab",
            ),
        ] {
            let region = regions.named(name).unwrap().number;
            assert_eq!(regions.get(region).name, name);
            let key = RegionalId { id, region };
            assert_eq!(regions.written_key(key), written);
            assert_eq!(regions.read_key(written), Ok(key));
        }
        let alias = "111122223333 alias/a/b";
        assert_eq!(regions.read(alias), Ok((RegionNumber::HOME, alias)));
    }

    #[test]
    fn what_is_in_a_region_that_is_not_served_names_it() {
        let regions = regions();
        for name in ["us-west-1", "us-east-1"] {
            let written = format!("{name}/1234abcd-12ab-34cd-56ef-1234567890ab");
            let unnamed = Unnamed::Region(name.to_owned());
            assert_eq!(regions.read_key(&written), Err(unnamed));
        }
        for text in [
            "",
            "us-west-2",
            "us-west-2/",
            "US/1234",
            "us-west-2/alias/a",
        ] {
            assert_eq!(regions.read_key(text), Err(Unnamed::Text), "{text}");
        }
    }

    #[test]
    fn an_arn_names_a_key_in_its_region() {
        let regions = regions();
        let id = "mrk-1234abcd12ab34cd56ef1234567890ab";
        let arn = |region: &str| format!("arn:aws:kms:{region}:111122223333:key/{id}");
        let key = regions.key_of(&arn("us-west-2")).unwrap();
        assert_eq!(key.id.to_string(), id);
        assert_eq!(
            regions
                .get(key.region)
                .key_arn("111122223333".parse().unwrap(), key.id),
            arn("us-west-2")
        );
        assert_eq!(regions.key_of(&arn("us-west-1")), None);
        assert_eq!(
            regions.key_of(&arn("us-west-2").replace("key/", "alias/")),
            None
        );
    }
}
