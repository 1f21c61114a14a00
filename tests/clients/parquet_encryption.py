"""Parquet's modular encryption by pyarrow on a running daemon: a table whose columns have keys of their own, wrapped over boto3."""

import base64
import tempfile
from datetime import timedelta
from pathlib import Path

import botocore.exceptions
import daemon
import pyarrow
import pyarrow.parquet
import pyarrow.parquet.encryption as modular
from daemon import ALIAS, Daemon, Tally, new_key

# By the names that files carry.
FOOTER_KEY, COLUMN_KEY = "alias/parquet-footer", "alias/parquet-column"
# A row group's pages are sealed on their own.
ROWS, ROW_GROUP_ROWS = 100_000, 25_000
SECRET = "container-000000000042"
CONTEXT = {"dataset": "containers"}


class Wrapper(modular.KmsClient):
    """Wraps what pyarrow draws: the master key's identifier is the KMS key's alias."""

    def __init__(self, mill: Daemon, tally: Tally, config: modular.KmsConnectionConfig):
        super().__init__()
        # The connection names who asks.
        self.kms = mill.client(config.custom_kms_conf["role"], tally)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        sealed = self.kms.encrypt(KeyId=master_key_identifier, Plaintext=key_bytes, EncryptionContext=CONTEXT)
        return base64.b64encode(sealed["CiphertextBlob"])

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        blob = base64.b64decode(wrapped_key)
        return self.kms.decrypt(KeyId=master_key_identifier, CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]


class Tables:
    """Writes and reads encrypted files as one of the daemon's principals."""

    def __init__(self, mill: Daemon, tally: Tally, role: str):
        self.factory = modular.CryptoFactory(lambda config: Wrapper(mill, tally, config))
        self.connection = modular.KmsConnectionConfig(custom_kms_conf={"role": role})

    def write(self, table: pyarrow.Table, path: Path, configuration: modular.EncryptionConfiguration) -> None:
        properties = self.factory.file_encryption_properties(self.connection, configuration)
        with pyarrow.parquet.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def read(self, path: Path, columns: list[str] | None = None) -> pyarrow.Table:
        lifetime = modular.DecryptionConfiguration(cache_lifetime=timedelta(minutes=5))
        properties = self.factory.file_decryption_properties(self.connection, lifetime)
        with pyarrow.parquet.ParquetFile(path, decryption_properties=properties) as file:
            return file.read(columns)


def fails(code: str, call, /, *arguments) -> None:
    """Calls, and holds the failure to the refusal that was its cause."""
    try:
        call(*arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == code, f"{error!r} instead of {code}"
        return
    raise AssertionError(f"no failure by {code}")


def configuration(**changes) -> modular.EncryptionConfiguration:
    columns = {COLUMN_KEY: ["container_id", "size"]}
    settings = {"footer_key": FOOTER_KEY, "column_keys": columns, "cache_lifetime": timedelta(minutes=5), "data_key_length_bits": 256}
    return modular.EncryptionConfiguration(**settings | changes)


def written(mill: Daemon, folder: Path, table: pyarrow.Table, tally: Tally) -> list[Path]:
    """The kinds of file there are: wrapped twice and once, and with a footer that anybody may read."""
    admin, paths = Tables(mill, tally, "admin"), []
    for name, changes in {"double": {}, "single": {"double_wrapping": False}, "open": {"plaintext_footer": True}}.items():
        paths.append(folder / f"{name}.parquet")
        admin.write(table, paths[-1], configuration(**changes))
        assert SECRET.encode() not in paths[-1].read_bytes(), name
        assert Tables(mill, tally, "consumer").read(paths[-1]).equals(table), name
        fails("AccessDeniedException", Tables(mill, tally, "provisioner").read, paths[-1])
    fails("AccessDeniedException", Tables(mill, tally, "consumer").write, table, folder / "never.parquet", configuration())
    fails("NotFoundException", admin.write, table, folder / "never.parquet", configuration(footer_key="alias/nobody"))
    assert pyarrow.parquet.read_schema(paths[2]).names == table.schema.names
    for path in paths[:2]:
        try:
            pyarrow.parquet.read_schema(path)
        except OSError:
            continue
        raise AssertionError(f"{path} was read without a key")
    return paths


def by_column(mill: Daemon, paths: list[Path], table: pyarrow.Table, keys: dict[str, list[str]], tally: Tally) -> None:
    """Columns whose key is disabled are closed, the others are not; a rotation closes nothing."""
    admin = mill.client("admin", tally)
    reader = Tables(mill, tally, "consumer")
    admin.disable_key(KeyId=keys[COLUMN_KEY][0])
    for path in paths:
        assert Tables(mill, tally, "consumer").read(path, ["tenant"]).equals(table.select(["tenant"]))
        fails("DisabledException", Tables(mill, tally, "consumer").read, path, ["size"])
    admin.enable_key(KeyId=keys[COLUMN_KEY][0])
    admin.rotate_key_on_demand(KeyId=keys[COLUMN_KEY][0])
    for path in paths:
        assert reader.read(path).equals(table)
    # A name that means another key from now on opens nothing of what was wrapped under it.
    admin.update_alias(AliasName=FOOTER_KEY, TargetKeyId=admin.describe_key(KeyId=ALIAS)["KeyMetadata"]["KeyId"])
    fails("IncorrectKeyException", Tables(mill, tally, "consumer").read, paths[0])


def main() -> None:
    step, place = daemon.step("pyarrow Parquet encryption", pyarrow.__version__), tempfile.TemporaryDirectory(prefix="keymill-parquet-")
    with step as (mill, tally), place as folder:
        keys = {alias: new_key(mill, alias, tally) for alias in (FOOTER_KEY, COLUMN_KEY)}
        names = pyarrow.array([f"container-{row:012}" for row in range(ROWS)])
        table = pyarrow.table({"tenant": pyarrow.array([row % 7 for row in range(ROWS)]), "container_id": names, "size": range(ROWS)})
        paths = written(mill, Path(folder), table, tally)
        by_column(mill, paths, table, keys, tally)


if __name__ == "__main__":
    main()
