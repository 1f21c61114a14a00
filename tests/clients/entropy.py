"""The operating system's entropy source fails under a running daemon: strace makes each getrandom(2) of it return EIO.

Calls fail with KMSInternalException and are counted, those that have aws-lc draw among them, which would end the process; what was
pooled before goes on; and when the source is back, everything does, in the same process.
"""

import os
import shutil
import subprocess

from botocore.exceptions import ClientError
from daemon import Tally, new_key, report, running, wait_until

OAEP = "RSAES_OAEP_SHA_256"


def main() -> None:
    tally = Tally()
    # A refusal is to be seen, not tried again.
    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    with running() as mill:
        admin = mill.client("admin", tally)
        key = new_key(mill, "alias/entropy", tally)[0]
        made = {
            (spec, usage): admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
            for spec, usage in [
                ("RSA_2048", "SIGN_VERIFY"), ("RSA_2048", "ENCRYPT_DECRYPT"), ("ECC_NIST_P256", "SIGN_VERIFY"),
                ("ML_DSA_44", "SIGN_VERIFY"), ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
            ]
        }
        external = admin.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        signs, seals, curve, lattice, kem = made.values()
        sealed = admin.encrypt(KeyId=seals, Plaintext=b"text", EncryptionAlgorithm=OAEP)["CiphertextBlob"]
        calls = {
            "pair": lambda: admin.generate_data_key_pair(KeyId=key, KeyPairSpec="ECC_NIST_P256"),
            "pair of RSA": lambda: admin.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec="RSA_2048"),
            "pair of ML-KEM": lambda: admin.generate_data_key_pair(KeyId=key, KeyPairSpec="ML_KEM_768"),
            "random": lambda: admin.generate_random(NumberOfBytes=32),
            "symmetric key": lambda: admin.create_key(),
            "RSA key": lambda: admin.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY"),
            "curve's key": lambda: admin.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY"),
            "ML-KEM key": lambda: admin.create_key(KeySpec="ML_KEM_1024", KeyUsage="ENCAPSULATE_DECAPSULATE"),
            "import": lambda: admin.get_parameters_for_import(KeyId=external, WrappingAlgorithm=OAEP, WrappingKeySpec="RSA_2048"),
            "PSS": lambda: admin.sign(KeyId=signs, Message=b"m", SigningAlgorithm="RSASSA_PSS_SHA_256"),
            "PKCS #1": lambda: admin.sign(KeyId=signs, Message=b"m", SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256"),
            "ECDSA": lambda: admin.sign(KeyId=curve, Message=b"m", SigningAlgorithm="ECDSA_SHA_256"),
            "ML-DSA": lambda: admin.sign(KeyId=lattice, Message=b"m", SigningAlgorithm="ML_DSA_SHAKE_256"),
            "ML-DSA, external mu": lambda: admin.sign(KeyId=lattice, Message=b"m" * 64, MessageType="EXTERNAL_MU", SigningAlgorithm="ML_DSA_SHAKE_256"),
            "encapsulation": lambda: admin.encapsulate(KeyId=kem, EncapsulationAlgorithm="ML_KEM"),
            "OAEP": lambda: admin.encrypt(KeyId=seals, Plaintext=b"text", EncryptionAlgorithm=OAEP),
            "OAEP, back": lambda: admin.decrypt(KeyId=seals, CiphertextBlob=sealed, EncryptionAlgorithm=OAEP),
        }
        taken = lambda: admin.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")["CiphertextBlob"]  # noqa: E731
        before = taken()
        wait_until(lambda: mill.metric("keymill_pool_depth", lane=f"{key}/AES_256") >= 1000, 60, "a full lane")

        process = mill.process.pid
        strace = shutil.which("strace") or "strace"
        failing = subprocess.Popen(
            [strace, "-f", "-p", str(process), "-e", "trace=getrandom", "-e", "inject=getrandom:error=EIO", "-o", "/dev/null"],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: not answered(calls["random"]), 20, "a failing source")
            counted = mill.metric("keymill_entropy_failures_total")
            for name, call in calls.items():
                assert not answered(call), f"{name} was answered without entropy"
                assert mill.process.poll() is None, f"{name} ended the daemon"
            failures = mill.metric("keymill_entropy_failures_total") - counted
            assert failures >= len(calls), f"{failures} failures counted in {len(calls)} calls"
            # Made before: no draw is in the way of a hit.
            assert taken()[24:48] != before[24:48]
        finally:
            failing.terminate()
            failing.wait(20)
        for name, call in calls.items():
            assert answered(call), f"{name} does not come back"
        assert mill.process.pid == process and mill.process.poll() is None
        print(f"{len(calls)} kinds of calls failed and came back")
    report("strace that fails getrandom", subprocess.run([strace, "--version"], capture_output=True, text=True, check=True).stdout.split()[3], tally.calls)


def answered(call) -> bool:
    """Whether it was; the only other answer is the failure that says that it may be tried again."""
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "KMSInternalException", error
        return False
    return True


if __name__ == "__main__":
    main()
