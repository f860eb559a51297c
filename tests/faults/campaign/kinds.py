"""All kinds of faults, by the name that is used to count and replay them."""

from __future__ import annotations

from tests.faults.campaign import network, postgres, processes, table, together, vanished, worker
from tests.faults.campaign import redis as redis_faults
from tests.faults.campaign.cluster import ClusterFailover
from tests.faults.campaign.dask_workers import DaskWorkerKilled
from tests.faults.campaign.databases import TwoDatabases
from tests.faults.campaign.disk import DiskFull
from tests.faults.campaign.failover import ReplicaPromoted
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.rewind import RestoredAndAccepted


def _to(server: str, way: type[network.Network]) -> type[network.Network]:
    """The fault for one of the two servers."""
    return type(way.__name__, (way,), {"to_redis": server == "redis", "__doc__": way.__doc__})


KINDS: dict[str, type[Fault]] = {
    "process-killed": processes.Killed,
    "process-terminated": processes.Terminated,
    "process-stopped": processes.Stopped,
    "run-cancelled": processes.CancelledByHand,
    "run-crashed-goes-on": processes.CrashedAndGoesOn,
    "worker-run-cancelled": worker.CancelledUnderWorker,
    "worker-run-killed": worker.KilledUnderWorker,
    "postgres-killed": postgres.KilledServer,
    "postgres-restarted-fast": postgres.RestartedFast,
    "postgres-restarted-immediate": postgres.RestartedImmediate,
    "postgres-backend-terminated": postgres.BackendTerminated,
    "postgres-backend-frozen": postgres.BackendFrozen,
    "postgres-disk-full": DiskFull,
    "postgres-statement-timeout": postgres.StatementTooSlow,
    "postgres-table-locked": postgres.TableLocked,
    "postgres-connection-limit": postgres.NoConnectionLeft,
    "postgres-read-only": postgres.ReadOnly,
    "redis-killed": redis_faults.KilledAndReloaded,
    "redis-paused": redis_faults.Paused,
    "redis-replica-promoted": ReplicaPromoted,
    "redis-restored-and-accepted": RestoredAndAccepted,
    "redis-memory-limit": redis_faults.MemoryLimitReached,
    "redis-clients-killed": redis_faults.ClientsKilled,
    "redis-empty-volume": vanished.EmptyVolume,
    "stream-renamed": vanished.Renamed,
    "stream-restored": vanished.DumpedAndRestored,
    "stream-swapped": vanished.Swapped,
    "table-columns-added": table.ColumnsAdded,
    "table-rows-rejected": table.RowsRejected,
    "table-rows-changed": table.RowsChanged,
    "role-settings": table.SettingsOfTheRole,
    "two-databases": TwoDatabases,
    **{
        f"network-{server}-{name}": _to(server, way)
        for server in ("redis", "postgres")
        for name, way in {
            "cut": network.Cut,
            "stalled": network.Stalled,
            "stalled-for-good": network.StalledForGood,
            "slow": network.Slow,
            "cut-in-reply": network.CutInReply,
            "cut-in-request": network.CutInRequest,
        }.items()
    },
    "prefect-away": network.PrefectAway,
    "prefect-gone": network.PrefectGone,
    "cluster-failover": ClusterFailover,
    "dask-worker-killed": DaskWorkerKilled,
    "runs-at-once": together.RunsAtOnce,
}
