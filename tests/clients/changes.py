"""Changes of everything that a store keeps, made one after the other by a writer that remembers what was acknowledged, and asks for it later."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import wire
from daemon import Daemon
from wire import Answer, Connection

# A key can be rotated so often on demand.
ROTATIONS_MAX = 25
KEYS_MAX, ALIASES_MAX, PRINCIPALS_MAX, GRANTS_MAX, ACCESS_KEYS_MAX = 24, 40, 12, 8, 2

# What can be asked of the daemon: a kind, and what it is about.
Fact = tuple[str, str]


class Unknown:
    """What an unanswered call would have told: something more than there was before."""


@dataclass
class Change:
    """One call, and what is so once it was answered. `facts` is given the answer, or nothing where none came."""

    operation: str
    members: dict
    facts: Callable[[dict | None], dict[Fact, object]]
    is_of_operator: bool = False


class Asker:
    """Connections as the admin, whom the key policies name, and as the operator."""

    def __init__(self, mill: Daemon):
        self.admin, self.operator = Connection(wire.admin_socket(mill)), Connection(mill.socket)

    def send(self, operation: str, members: dict, is_of_operator: bool = False) -> Connection:
        body = json.dumps(members).encode()
        connection = self.operator if is_of_operator else self.admin
        connection.send(wire.request("POST", f"/v1/admin/{operation}", {}, body) if is_of_operator else wire.operation(operation, body))
        return connection

    def call(self, operation: str, members: dict, is_of_operator: bool = False) -> Answer:
        return self.send(operation, members, is_of_operator).receive()

    def told(self, operation: str, members: dict, is_of_operator: bool = False) -> dict | None:
        """The answer's members, or None for what is not there."""
        answer = self.call(operation, members, is_of_operator)
        if "NotFound" in answer.code or "NoSuchEntity" in answer.code:
            return None
        assert answer.status == 200, f"{operation} {members}: {answer}"
        return json.loads(answer.body)

    def find(self, fact: Fact) -> object:
        """How it is with a fact now."""
        kind, about = fact
        match kind:
            case "state" | "description":
                metadata = self.told("DescribeKey", {"KeyId": about})["KeyMetadata"]
                return metadata["KeyState"] if kind == "state" else metadata["Description"]
            case "alias":
                found = self.told("DescribeKey", {"KeyId": about})
                return found and found["KeyMetadata"]["KeyId"]
            case "policy":
                return self.told("GetKeyPolicy", {"KeyId": about})["Policy"]
            case "tags":
                return frozenset((tag["TagKey"], tag["TagValue"]) for tag in self.told("ListResourceTags", {"KeyId": about})["Tags"])
            case "grants":
                return frozenset(grant["GrantId"] for grant in self.told("ListGrants", {"KeyId": about, "Limit": 100})["Grants"])
            case "rotates":
                return self.told("GetKeyRotationStatus", {"KeyId": about})["KeyRotationEnabled"]
            case "rotations":
                return len(self.told("ListKeyRotations", {"KeyId": about, "Limit": 100})["Rotations"])
        found = self.told("DescribePrincipal", {"Name": about}, is_of_operator=True)
        if kind == "access keys":
            return frozenset((key["AccessKeyId"], key["Status"]) for key in found["AccessKeys"]) if found else frozenset()
        return found and (found["Enabled"], frozenset(found["Policies"]), frozenset((tag["Key"], tag["Value"]) for tag in found["Tags"]))


@dataclass
class Writer:
    """Makes changes in an order of its own; nobody else changes what it has made."""

    name: str
    arn: Callable[[str], str]
    chance: random.Random
    facts: dict[Fact, object] = field(default_factory=dict)
    # Since when the daemon was last asked.
    fresh: set[Fact] = field(default_factory=set)
    pending: Change | None = None
    done: Counter = field(default_factory=Counter)
    number: int = 0

    def about(self, kind: str, value: object = None) -> list[str]:
        """What there is a fact of this kind about, and of this value if one is given."""
        return [about for (of, about), known in self.facts.items() if of == kind and known is not None and value in (None, known)]

    def sent(self, change: Change) -> None:
        self.pending = change

    def answered(self, answer: Answer) -> None:
        """Keeps what an answer acknowledges. Whatever was not refused as it should be is a fault."""
        change, self.pending = self.pending, None
        assert answer.status == 200, f"{change.operation} {change.members}: {answer}"
        facts = change.facts(json.loads(answer.body or b"{}"))
        self.facts |= facts
        self.fresh |= facts.keys()
        self.done[change.operation] += 1

    def ask(self, asker: Asker, everything: bool) -> int:
        """Holds the daemon to what was acknowledged. Returns 1 if a change that was not answered has been done all the same."""
        was_done = self.settle(asker)
        for fact in list(self.facts) if everything else self.fresh:
            kind, about = fact
            if kind == "rotates" and self.facts["state", about] == "PendingDeletion":
                # Such a key is not rotated, whatever it goes back to.
                continue
            found = asker.find(fact)
            assert found == self.facts[fact], f"lost: {fact} is {found}, and {self.facts[fact]} was acknowledged"
        self.fresh = set()
        return was_done

    def settle(self, asker: Asker) -> int:
        """A change without an answer is done or it is not, and as a whole."""
        change, self.pending = self.pending, None
        outcomes = set()
        for fact, after in change.facts(None).items() if change else ():
            before, found = self.facts.get(fact, frozenset() if after is Unknown else None), asker.find(fact)
            # What the change leaves as it was says nothing.
            if found == before != after:
                outcomes.add(False)
            elif found != before:
                assert before <= found and len(found) == len(before) + 1 if after is Unknown else found == after, f"{change.operation}: {fact} is {found}; it was {before}"
                outcomes.add(True)
            self.facts[fact] = found
        assert len(outcomes) <= 1, f"{change.operation} was done by half"
        return int(outcomes == {True})

    def next(self) -> Change:
        """A change that the daemon must make."""
        self.number += 1
        makers = [self.key, self.alias, self.alias, self.enabled_key, self.enabled_key, self.enabled_key, self.other_key, self.principal, self.principal]
        while not (change := self.chance.choice(makers)()):
            pass
        return change

    def key(self) -> Change | None:
        if len(self.about("state")) >= KEYS_MAX:
            return None
        description, policy = f"{self.name} {self.number}", self.policy()

        def facts(answer: dict | None) -> dict[Fact, object]:
            # A key whose id was never told is nobody's.
            if answer is None:
                return {}
            key = answer["KeyMetadata"]["KeyId"]
            return {
                ("policy", key): policy,
                ("state", key): "Enabled", ("description", key): description, ("tags", key): frozenset(), ("grants", key): frozenset(),
                ("rotates", key): False, ("rotations", key): 0,
            }

        return Change("CreateKey", {"Description": description, "Policy": policy}, facts)

    def policy(self) -> str:
        statement = {"Sid": f"s{self.number}", "Effect": "Allow", "Principal": {"AWS": self.arn("root")}, "Action": "kms:*", "Resource": "*"}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def alias(self) -> Change | None:
        keys, aliases = self.about("state"), self.about("alias")
        keys = [key for key in keys if self.facts["state", key] != "PendingDeletion"]
        if not keys:
            return None
        key = self.chance.choice(keys)
        name = self.chance.choice(aliases) if aliases else None
        if name is None or len(aliases) < ALIASES_MAX and self.chance.randrange(2):
            name = f"alias/{self.name}-{self.number}"
            return Change("CreateAlias", {"AliasName": name, "TargetKeyId": key}, lambda _: {("alias", name): key})
        if self.chance.randrange(2):
            return Change("UpdateAlias", {"AliasName": name, "TargetKeyId": key}, lambda _: {("alias", name): key})
        return Change("DeleteAlias", {"AliasName": name}, lambda _: {("alias", name): None})

    def enabled_key(self) -> Change | None:
        keys = self.about("state", "Enabled")
        if not keys:
            return None
        key = self.chance.choice(keys)
        grants, tags, rotations = self.facts["grants", key], self.facts["tags", key], self.facts["rotations", key]
        match self.chance.randrange(9):
            case 0:
                return Change("DisableKey", {"KeyId": key}, lambda _: {("state", key): "Disabled"})
            case 1:
                return Change("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7}, lambda _: {("state", key): "PendingDeletion"})
            case 2:
                policy = self.policy()
                return Change("PutKeyPolicy", {"KeyId": key, "Policy": policy}, lambda _: {("policy", key): policy})
            case 3:
                tag = (f"k{self.chance.randrange(4)}", str(self.number))
                after = frozenset(one for one in tags if one[0] != tag[0]) | {tag}
                return Change("TagResource", {"KeyId": key, "Tags": [{"TagKey": tag[0], "TagValue": tag[1]}]}, lambda _: {("tags", key): after})
            case 4 if rotations < ROTATIONS_MAX:
                return Change("RotateKeyOnDemand", {"KeyId": key}, lambda _: {("rotations", key): rotations + 1})
            case 5:
                rotates = self.facts["rotates", key]
                return Change("DisableKeyRotation" if rotates else "EnableKeyRotation", {"KeyId": key}, lambda _: {("rotates", key): not rotates})
            case 6 if len(grants) < GRANTS_MAX:
                members = {"KeyId": key, "GranteePrincipal": self.arn("user/consumer"), "Operations": ["Decrypt"], "Name": f"g{self.number}"}
                return Change("CreateGrant", members, lambda answer: {("grants", key): grants | {answer["GrantId"]} if answer else Unknown})
            case 7 if grants:
                grant = self.chance.choice(sorted(grants))
                return Change("RevokeGrant", {"KeyId": key, "GrantId": grant}, lambda _: {("grants", key): grants - {grant}})
            case 8:
                description = f"{self.name} {self.number}"
                return Change("UpdateKeyDescription", {"KeyId": key, "Description": description}, lambda _: {("description", key): description})
        return None

    def other_key(self) -> Change | None:
        """A key that is not enabled comes back."""
        keys = self.about("state", "Disabled") + self.about("state", "PendingDeletion")
        if not keys:
            return None
        key = self.chance.choice(keys)
        if self.facts["state", key] == "Disabled":
            return Change("EnableKey", {"KeyId": key}, lambda _: {("state", key): "Enabled"})
        return Change("CancelKeyDeletion", {"KeyId": key}, lambda _: {("state", key): "Disabled"})

    def principal(self) -> Change | None:
        names = self.about("principal")
        if not names or len(names) < PRINCIPALS_MAX and self.chance.randrange(4) == 0:
            name = f"{self.name}-{self.number}"

            def facts(answer: dict | None) -> dict[Fact, object]:
                keys = frozenset({(answer["AccessKeyId"], "Active")}) if answer else Unknown
                return {("principal", name): (True, frozenset(), frozenset()), ("access keys", name): keys}

            return Change("CreatePrincipal", {"Name": name, "Kind": "user"}, facts, is_of_operator=True)
        name = self.chance.choice(names)
        is_enabled, policies, tags = self.facts["principal", name]
        keys = self.facts["access keys", name]

        def change(operation: str, after: object, **members: object) -> Change:
            return Change(operation, {"Name": name, **members}, lambda _: {("principal", name): after}, is_of_operator=True)

        def of_key(operation: str, after: frozenset, **members: str) -> Change:
            return Change(operation, {"Name": name, **members}, lambda _: {("access keys", name): after}, is_of_operator=True)

        key, status = self.chance.choice(sorted(keys)) if keys else ("", "")
        match self.chance.randrange(7):
            case 0:
                return change("DisablePrincipal" if is_enabled else "EnablePrincipal", (not is_enabled, policies, tags))
            case 1:
                statement = {"Sid": f"s{self.number}", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
                policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
                return change("PutPrincipalPolicies", (is_enabled, frozenset({policy}), tags), Policies=[policy])
            case 2:
                return change("PutPrincipalTags", (is_enabled, policies, frozenset({("n", str(self.number))})), Tags=[{"Key": "n", "Value": str(self.number)}])
            case 3 if len(keys) < ACCESS_KEYS_MAX:
                return Change(
                    "CreateAccessKey", {"Name": name}, lambda answer: {("access keys", name): keys | {(answer["AccessKeyId"], "Active")} if answer else Unknown}, is_of_operator=True,
                )
            case 4 if keys:
                other = "Inactive" if status == "Active" else "Active"
                return of_key("UpdateAccessKey", keys - {(key, status)} | {(key, other)}, AccessKeyId=key, Status=other)
            case 5 if keys:
                return of_key("DeleteAccessKey", keys - {(key, status)}, AccessKeyId=key)
            case 6 if self.chance.randrange(3) == 0:
                gone = {("principal", name): None, ("access keys", name): frozenset()}
                return Change("DeletePrincipal", {"Name": name}, lambda _: gone, is_of_operator=True)
        return None
