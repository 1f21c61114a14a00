//! `MultiRegionConfiguration`: which keys are related to a multi-Region key. It is the same from
//! each of them but for the type of the key itself.

use crate::api::wire::Object;
use crate::key::KmsKey;
use crate::key::regions::{RegionNumber, Regions};
use crate::keystore::Snapshot;

/// A key among those related to it: its Region and its ARN.
pub(super) type Member<'a> = (RegionNumber, &'a str);

/// The key of this id in each Region that has one.
pub(super) fn members<'a>(key: &KmsKey, snapshot: &'a Snapshot) -> Vec<Member<'a>> {
    let related = snapshot.related(key.id);
    let member = related.map(|entry| (entry.key.region, entry.arn.as_str()));
    member.collect()
}

/// `MultiRegionConfiguration` of a key among these members; `None` for a single-Region key.
pub(super) fn configuration(
    key: &KmsKey,
    members: &[Member<'_>],
    regions: &Regions,
) -> Option<Object> {
    let (kind, primary) = (key.multi_region_type()?, key.primary?);
    let object = |(region, arn): Member<'_>| {
        let mut object = Object::with_room(256);
        object.plain("Arn", arn);
        object.plain("Region", &regions.get(region).name);
        object
    };
    let mut configuration = Object::with_room(1024);
    configuration.plain("MultiRegionKeyType", kind);
    let of_primary = members.iter().find(|(region, _)| *region == primary);
    if let Some(member) = of_primary {
        configuration.object("PrimaryKey", object(*member));
    }
    let replicas = members.iter().filter(|(region, _)| *region != primary);
    configuration.list("ReplicaKeys", replicas.map(|member| object(*member)));
    Some(configuration)
}
