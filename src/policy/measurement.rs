//! What was measured of a recipient, as condition keys name it.
//!
//! Source: AWS KMS Developer Guide, "AWS KMS condition keys for attested platforms".

/// A measurement in an attestation document: what follows `kms:RecipientAttestation:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// `ImageSha384`: the image of an enclave, which is its register 0.
    ImageSha384,
    /// `PCR<index>`: a register of an enclave.
    Pcr(u8),
    /// `NitroTPMPCR<index>`: a register of the TPM of an instance.
    NitroTpmPcr(u8),
}

impl Measurement {
    /// The registers of an enclave.
    pub const PCRS: u8 = 32;
    /// The registers of a TPM.
    pub const NITRO_TPM_PCRS: u8 = 24;

    /// The measurement of this name, whatever the case of its letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if name == "imagesha384" {
            return Some(Self::ImageSha384);
        }
        match name.strip_prefix("nitrotpm") {
            None => index(&name, Self::PCRS).map(Self::Pcr),
            Some(name) => index(name, Self::NITRO_TPM_PCRS).map(Self::NitroTpmPcr),
        }
    }
}

/// The number of a register, in digits without a zero before them.
fn index(name: &str, count: u8) -> Option<u8> {
    let digits = name.strip_prefix("pcr")?;
    let index: u8 = digits.parse().ok()?;
    (index < count && index.to_string() == digits).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_those_that_there_are() {
        for (name, measurement) in [
            ("ImageSha384", Measurement::ImageSha384),
            ("IMAGESHA384", Measurement::ImageSha384),
            ("PCR0", Measurement::Pcr(0)),
            ("pcr31", Measurement::Pcr(31)),
            ("NitroTPMPCR0", Measurement::NitroTpmPcr(0)),
            ("nitrotpmpcr23", Measurement::NitroTpmPcr(23)),
        ] {
            assert_eq!(Measurement::named(name), Some(measurement), "{name}");
        }
        for name in [
            "",
            "PCR",
            "PCR32",
            "PCR256",
            "PCR-1",
            "PCR+1",
            "PCR01",
            "PCR 1",
            "NitroTPMPCR24",
            "NitroTPM",
            "NitroTPMImageSha384",
            "ImageSha256",
        ] {
            assert_eq!(Measurement::named(name), None, "{name}");
        }
    }
}
