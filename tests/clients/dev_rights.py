"""Who may do what after `keymill dev`: every principal on its socket, and signed over TCP, against every kind of call. What no policy allows is denied."""

import base64
import json

from daemon import ALIAS, Daemon, report, running
from unix_socket import UnixConnection, signed

NEXT = "alias/next"
MINT, OPEN, MOVE = "GenerateDataKeyWithoutPlaintext", "Decrypt", "ReEncrypt"
# Who may do what; the admin may do everything, and has no socket.
ALLOWED = {
    "provisioner": {MINT, "DescribeKey"},
    "consumer": {OPEN, "DescribeKey"},
    "rewrapper": {MOVE, "DescribeKey"},
}
# The operator's, on the daemon's own socket alone.
ADMINISTRATION = ("ListPrincipals", "DescribeKeys", "CreatePrincipal", "CreateAccessKey", "DescribeAuditLog")


def calls(blob: str) -> dict[str, dict]:
    """A good request of every kind."""
    key = {"KeyId": ALIAS}
    return {
        MINT: key | {"KeySpec": "AES_256"},
        OPEN: {"CiphertextBlob": blob},
        MOVE: {"CiphertextBlob": blob, "DestinationKeyId": NEXT},
        "GenerateDataKey": key | {"KeySpec": "AES_256"},
        "Encrypt": key | {"Plaintext": base64.b64encode(b"x").decode()},
        "DescribeKey": key,
        "CreateKey": {},
        "ListKeys": {},
        "ListAliases": {},
        "GenerateRandom": {"NumberOfBytes": 8},
    }


def path_of(mill: Daemon, name: str) -> str:
    return mill.socket if name == "provisioner" else mill.facts["sockets"][name]


def judge(name: str, operation: str, status: int, answer: dict) -> None:
    if operation in ALLOWED[name]:
        assert status == 200, f"{name} may not {operation}: {answer}"
        assert operation == OPEN or "Plaintext" not in answer, answer
    else:
        assert (status, answer.get("__type")) == (400, "AccessDeniedException"), f"{name} may {operation}: {answer}"


def main() -> None:
    asked = 0
    with running() as mill:
        assert set(mill.facts["sockets"]) == {"consumer", "rewrapper"}, mill.facts
        blob = base64.b64encode(
            mill.client("provisioner").generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"]
        ).decode()
        for name in ALLOWED:
            connection = UnixConnection(path_of(mill, name))
            for operation, members in calls(blob).items():
                judge(name, operation, *connection.call(operation, members))
                body, head = signed(mill, name, operation, members)
                status, _, said = connection.post("/", body, head)
                judge(name, operation, status, json.loads(said))
                asked += 2
            # They are denied on the further sockets, though the uid is the operator's.
            for operation in ADMINISTRATION if name != "provisioner" else ():
                status, _, said = connection.post(f"/v1/admin/{operation}", b"{}", {"Content-Type": "application/json"})
                assert (status, json.loads(said)["__type"]) == (403, "AccessDeniedException"), f"{name} may {operation}: {said}"
                asked += 1
        for operation, members in calls(blob).items():
            connection = UnixConnection(path_of(mill, "consumer"))
            body, head = signed(mill, "admin", operation, members)
            status, _, said = connection.post("/", body, head)
            assert status == 200, f"the admin may not {operation}: {said}"
            asked += 1
    report("the principals of keymill dev", "0.1.0", asked)


if __name__ == "__main__":
    main()
