"""Starting, finding, enlarging and stopping clusters from Python."""
import asyncio
import os
import tempfile

import covey as ipp


async def for_a_while(folder):
    async with ipp.Cluster(n=1, profile_dir=folder) as rc:
        return rc.ids


def main():
    with tempfile.TemporaryDirectory() as folder:
        profile = os.path.join(folder, "profile_example")
        os.mkdir(profile)
        cluster = ipp.Cluster(n=1, profile_dir=profile, cluster_id="mine")
        try:
            rc = cluster.start_and_connect_sync()
            more = cluster.start_engines_sync(1)         # a second set of engines
            rc.wait_for_engines(2, interactive=False)
            print("engines:", rc.ids, "sets:", len(cluster.engines))

            found = ipp.ClusterManager().load_clusters(profile_dirs=[profile])
            print("running here:", [c.cluster_id for c in found.values()])
            again = ipp.Cluster.from_file(profile_dir=profile, cluster_id="mine")
            with again.connect_client_sync() as other:   # as another process would
                print("from its file:", other.ids)

            cluster.stop_engines_sync(more)
            rc.close()
        finally:
            cluster.stop_cluster_sync()
        print("files left:", [f for f in os.listdir(os.path.join(profile, "security"))])
        print("async:", asyncio.run(for_a_while(profile)))


if __name__ == "__main__":
    main()
