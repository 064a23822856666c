"""The private throwaway cluster of `local`, and the files with its passwords."""

from pyinfra import host
from pyinfra.operations import files

from fleet import operations

if host.data.env_kind == "local":
    operations.cluster(
        name="Start the private database cluster",
        base=host.data.cluster_base,
        port=host.data.db_port,
        major=host.data.get("cluster_major"),
    )
    for role in ("migrator", "app"):
        operations.generated_password(
            name=f"Make the password of the {role} role", path=host.data.get(f"db_{role}_password")["file"]
        )
    files.directory(name="Make the folder of the backups", path=host.data.backup_dir, mode="700")
