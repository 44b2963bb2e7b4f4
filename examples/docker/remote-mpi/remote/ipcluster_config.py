# On `remote`: engines are started by mpiexec.
c = get_config()  # noqa: F821
c.Cluster.engine_launcher_class = "mpi"
c.MPILauncher.mpi_args = ["--oversubscribe"]  # more ranks than cores, if need be
