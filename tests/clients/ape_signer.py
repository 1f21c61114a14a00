"""ape-aws, the KMS plugin of the Ape framework, on a running daemon: keys that it makes are Ethereum accounts, and what they sign is recovered to their address by eth-account. Run by the interpreter of its own environment, with the daemon's facts in DAEMON."""

import json
import os
from importlib.metadata import version

import ape
import botocore.exceptions
from ape_aws.accounts import AwsAccountContainer, KmsAccount
from ape_aws.client import AwsClient
from daemon import report
from eth_account import Account
from eth_account.messages import encode_defunct

# Half of the signatures have a high s, which Ethereum refuses: the signer sets it right.
SIGNATURES = 20
FACTS = json.loads(os.environ["DAEMON"])
DEAD = "0x000000000000000000000000000000000000dEaD"


def client(role: str, calls: list) -> AwsClient:
    """The plugin's client of a principal, whose answered calls are counted. It has two variables of its own for credentials."""
    who = FACTS["principals"][role]
    os.environ |= {"AWS_ACCOUNT_ID": who["access_key_id"], "AWS_SECRET_KEY": who["secret_access_key"]}
    os.environ |= {"AWS_DEFAULT_REGION": FACTS["region"], "AWS_ENDPOINT_URL_KMS": FACTS["endpoint"]}
    made = AwsClient()
    made.kms_client.meta.events.register("after-call.kms", lambda **_: calls.append(role))
    return made


def messages(account: KmsAccount) -> None:
    """Half of the signatures have the one parity, half the other."""
    seen = set()
    for number in range(SIGNATURES):
        text = f"container-{number}, Zoë"
        signature = account.sign_message(text)
        assert Account.recover_message(encode_defunct(text=text), vrs=(signature.v, signature.r, signature.s)) == account.address
        seen.add(signature.v)
    assert seen == {27, 28}, seen


def transactions(account: KmsAccount) -> None:
    """An old one and one of EIP-1559, as they would be sent."""
    ethereum = ape.networks.ethereum
    told = {"chain_id": 1, "to": DEAD, "value": 1, "nonce": 0, "gas": 21000, "sender": account.address}
    for more in ({"type": 0, "gas_price": 1}, {"type": 2, "max_fee": 2, "max_priority_fee": 1}):
        signed = account.sign_transaction(ethereum.create_transaction(**told, **more))
        assert Account.recover_transaction(signed.serialize_transaction()) == account.address, more


def main() -> None:
    calls = []
    admin = client("admin", calls)
    account = KmsAccount(key=admin.generate_key("signs"))
    messages(account)
    transactions(account)
    # Found again by its alias, as the framework finds the accounts of a user.
    found = AwsAccountContainer(name="aws", account_type=KmsAccount)
    assert {other.alias: other.address for other in found.accounts} == {"signs": account.address}
    client("consumer", calls)
    try:
        account.sign_message("another")
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException", error
    else:
        raise AssertionError("the consumer signs")
    report("ape-aws", version("ape-aws"), len(calls))


if __name__ == "__main__":
    main()
